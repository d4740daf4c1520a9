# gatepo with vLLM and DeepSpeed, for NVIDIA GPUs: the wheels bring CUDA, the host its driver.
#   docker build --file docker/gpu.Dockerfile --tag gatepo:gpu .
#   docker run --gpus all --ipc=host gatepo:gpu python -m gatepo.train gate=erf
FROM python:3.12.12-slim-bookworm

# gcc and g++: Triton compiles its launchers, torch.compile what runs on the host. git: run.json names the commit where the folder is a clone.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc g++ libc6-dev git \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/gatepo
COPY pyproject.toml README.md LICENSE constraints-gpu.txt ./
COPY gatepo gatepo
COPY hydra_plugins hydra_plugins
COPY conf conf
COPY experiments experiments
COPY sweeps sweeps
COPY benchmarks benchmarks
RUN python -m pip install --no-cache-dir --constraint constraints-gpu.txt '.[vllm,deepspeed,lora,trackers,slurm]'

ENV HF_HOME=/cache TOKENIZERS_PARALLELISM=false
WORKDIR /gatepo
RUN useradd --create-home --uid 1000 gatepo && mkdir --parents /cache && chown gatepo /gatepo /cache
USER gatepo
CMD ["python", "-m", "gatepo"]
