# A node of a Ray cluster for fox1: Ray with fox1's dependencies and compiled kernels. Build it in the root of a checkout and
# push it; ray_cluster.yaml and docs/kuberay.yaml name it:
#
#     docker build --tag REGISTRY/fox1-ray:2.60.0 . && docker push REGISTRY/fox1-ray:2.60.0
#
# fox1 itself is not part of it: each job brings the code that it was submitted with. Python and Ray must be those of the
# machine you submit from (PYTHON=312 for Python 3.12).
ARG PYTHON=311
FROM rayproject/ray:2.60.0-py${PYTHON}

# CUDA comes with torch. boto3 is for the autoscaler of ray_cluster.yaml.
COPY pyproject.toml constraints.txt /tmp/fox1/
RUN pip install --no-cache-dir uv \
    && uv pip install --system --no-cache -r /tmp/fox1/pyproject.toml --extra s3 --constraint /tmp/fox1/constraints.txt \
       'ray[default]==2.60.0' boto3

# Kernels are found by the contents of their files, so that no job compiles those that it shares with this checkout.
COPY __init__.py kernel_cache.py /tmp/fox1/
COPY cluster /tmp/fox1/cluster
COPY commands /tmp/fox1/commands
COPY pipeline /tmp/fox1/pipeline
COPY recipes /tmp/fox1/recipes
COPY storage /tmp/fox1/storage
COPY tokenize /tmp/fox1/tokenize
COPY trainer /tmp/fox1/trainer
RUN cd / && PYTHONPATH=/tmp python -m fox1.commands.compile_kernels
