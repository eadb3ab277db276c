# Each phase states its GPU memory once, as gpu_mem_gb; profiles translate it for a cluster.
# Imports in functions do not count as code of a phase: the network of phase 3 would be part of phase 2.
# last.ckpt lies in <output>/resume/ and is no declared output, which would be deleted before a rerun.


rule train_freq_compressor:
    input:
        train=expand("data/processed/{dataset}/train.npz", dataset=DATASETS),
        val=expand("data/processed/{dataset}/val.npz", dataset=DATASETS),
    output:
        model="checkpoints/freq_compressor/best_model.pth",
        small="checkpoints/freq_compressor/best_model.cfm",
        history=report(
            "checkpoints/freq_compressor/history.csv",
            caption="../report/history.rst",
            category="Training",
            labels={"phase": "1 frequency compressor"},
        ),
    log:
        "logs/train_freq_compressor.log",
    benchmark:
        "results/benchmarks/train_freq_compressor.tsv"
    conda:
        "../../environment.yml"
    threads: 4
    resources:
        **gpu(gpu_mem_gb=8),
        mem_mb=growing(8000),
        runtime=growing(720),
    params:
        flags=library.flags(config, "freq_compressor"),
        how=library.run_flags(config, "freq_compressor"),
        code=fingerprint("caesar_freq.train_freq_compressor", lazy=False),
        start=library.start_model(config),
        folder=subpath(output.model, parent=True),
    message:
        "Phase 1: entropy model and quantiser"
    shell:
        "python -m caesar_freq.train_freq_compressor --train_data {input.train}"
        " --val_data {input.val} {params.flags} {params.how} --device auto"
        " --gpu_mem_gb {resources.gpu_mem_gb} --output_dir {params.folder} 2>&1 | logged {log}"


rule train_diffusion:
    input:
        train=rules.train_freq_compressor.input.train,
        val=rules.train_freq_compressor.input.val,
        freq=rules.train_freq_compressor.output.model,
    output:
        model="checkpoints/diffusion/diffusion_best.pth",
        history=report(
            "checkpoints/diffusion/history.csv",
            caption="../report/history.rst",
            category="Training",
            labels={"phase": "2 diffusion teacher"},
        ),
    log:
        "logs/train_diffusion.log",
    benchmark:
        "results/benchmarks/train_diffusion.tsv"
    conda:
        "../../environment.yml"
    threads: 4
    resources:
        **gpu(gpu_mem_gb=16),
        mem_mb=growing(16000),
        runtime=growing(1440),
    params:
        flags=library.flags(config, "diffusion"),
        how=library.run_flags(config, "diffusion"),
        code=fingerprint("caesar_freq.train_diffusion", lazy=False),
        folder=subpath(output.model, parent=True),
    message:
        "Phase 2: 32-step teacher"
    shell:
        "python -m caesar_freq.train_diffusion --train_data {input.train}"
        " --val_data {input.val} --freq_compressor_path {input.freq} {params.flags} {params.how}"
        " --device auto --gpu_mem_gb {resources.gpu_mem_gb}"
        " --output_dir {params.folder} 2>&1 | logged {log}"


rule train_distillation:
    input:
        train=rules.train_freq_compressor.input.train,
        val=rules.train_freq_compressor.input.val,
        freq=rules.train_freq_compressor.output.model,
        teacher=rules.train_diffusion.output.model,
    output:
        model="checkpoints/distillation/student_best.pth",
        history=report(
            "checkpoints/distillation/history.csv",
            caption="../report/history.rst",
            category="Training",
            labels={"phase": "3 one-step student"},
        ),
    log:
        "logs/train_distillation.log",
    benchmark:
        "results/benchmarks/train_distillation.tsv"
    conda:
        "../../environment.yml"
    threads: 4
    resources:
        **gpu(gpu_mem_gb=12),
        mem_mb=growing(16000),
        runtime=growing(1440),
    params:
        flags=library.flags(config, "distillation"),
        how=library.run_flags(config, "distillation"),
        code=fingerprint("caesar_freq.train_distillation", lazy=False),
        folder=subpath(output.model, parent=True),
    message:
        "Phase 3: one-step student"
    shell:
        "python -m caesar_freq.train_distillation --train_data {input.train}"
        " --val_data {input.val} --freq_compressor_path {input.freq}"
        " --teacher_path {input.teacher} {params.flags} {params.how} --device auto"
        " --gpu_mem_gb {resources.gpu_mem_gb} --output_dir {params.folder} 2>&1 | logged {log}"
