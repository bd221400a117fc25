"""Fine-tune Gemma, and prove that it does your task.

The verbs of the command line are functions of `gemtune.pipeline.stages`:

    from gemtune.pipeline.stages import Job, prepare, train, evaluate, report

    job = Job.of("emoji.yaml", ("train.epochs=3",))
    train(job)
    print(evaluate(job)["metrics"]["f1"])
    print(report(job))
"""
