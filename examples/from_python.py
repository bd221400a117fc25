"""A fine-tune from Python, cell by cell: open it as a notebook, or run it whole.

python examples/from_python.py
"""

# %% A recipe: rows of `text` and `emoji`, one pass over them; every other key has its default (docs/recipe.md).
from pathlib import Path

from gemtune import Job, Recipe, check, evaluate, generate, prepare, report, train

rows = Path(__file__).with_name("emoji.csv")
recipe = Recipe(task="emoji", data=str(rows), train={"epochs": 1, "max_length": 128}, evaluate={"limit": 50})

# %% A job is the recipe at work in its run directory, runs/emoji.
job = Job(recipe)
data = prepare(job)
print(f"{data['kept']} rows kept, {sum(data['dropped'].values())} dropped: {data['dropped']}")

# %% What would be trained is checked before anything expensive.
for finding in check(job):
    print(finding)

# %% Train: resumes from the newest checkpoint when it was stopped.
training = train(job)
print(f"{training['steps']} steps, {training['tokens']} tokens, best at step {training['best_step']}")

# %% Base against tuned on the same rows.
scores = evaluate(job)
print(scores["metric"], scores["metrics"][scores["metric"]])

# %% Ask it something, and write the report.
print(generate(job, "let's go to the beach"))
print(report(job))
