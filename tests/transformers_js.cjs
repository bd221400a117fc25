// node transformers_js.cjs FOLDER LIMIT: texts as JSON on stdin, token ids of prompts and greedy replies on stdout.
const { AutoModelForCausalLM, AutoTokenizer, env } = require("@huggingface/transformers");

async function main([folder, limit]) {
  env.allowRemoteModels = false;
  env.localModelPath = "/";
  const texts = JSON.parse(require("fs").readFileSync(0, "utf8"));
  const tokenizer = await AutoTokenizer.from_pretrained(folder);
  const model = await AutoModelForCausalLM.from_pretrained(folder);
  const answers = [];
  for (const text of texts) {
    const inputs = tokenizer(text);
    const began = Date.now();
    const output = await model.generate({ ...inputs, max_new_tokens: Number(limit), do_sample: false });
    const ids = Array.from(output.data, Number);
    const cut = inputs.input_ids.dims[1];
    console.error(((ids.length - cut) / (Date.now() - began)) * 1000, "tokens per second");
    answers.push({ prompt: ids.slice(0, cut), reply: ids.slice(cut) });
  }
  console.log(JSON.stringify(answers));
}

main(process.argv.slice(2));
