# gatepo without a GPU: what `make train` installs, and the embedded model's run.
#   docker build --file docker/cpu.Dockerfile --tag gatepo:cpu .
#   docker run --volume $PWD/outputs:/gatepo/outputs gatepo:cpu
# Many indices have a torch with CUDA under this version, several GB of it; TORCH_INDEX names one that has it without:
#   docker build --build-arg TORCH_INDEX=ADDRESS --file docker/cpu.Dockerfile --tag gatepo:cpu .
FROM python:3.12.12-slim-bookworm

ARG TORCH_INDEX=""
WORKDIR /opt/gatepo
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY gatepo gatepo
COPY hydra_plugins hydra_plugins
COPY conf conf
COPY experiments experiments
COPY sweeps sweeps
# A torch with CUDA wants a triton of its own.
RUN grep --invert-match '^triton==' constraints.txt > constraints-cpu.txt \
    && python -m pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch==2.13.0 \
    && python -m pip install --no-cache-dir --constraint constraints-cpu.txt .

ENV HF_HOME=/cache TOKENIZERS_PARALLELISM=false
WORKDIR /gatepo
RUN useradd --create-home --uid 1000 gatepo && mkdir --parents /cache && chown gatepo /gatepo /cache
USER gatepo
CMD ["python", "-m", "gatepo.train", "gate=arctan", "tau.pos=10"]
