"""Fine-tune Gemma, and prove that it does your task.

The verbs of the command line are functions of `gemtune.stages` (a verb's own module has its name, so they are not
repeated here):

    from gemtune.stages import Job, prepare, train, evaluate, report

    job = Job.of("emoji.yaml", ("train.epochs=3",))
    train(job)
    print(evaluate(job)["metrics"]["f1"])
    print(report(job))
"""
