# fedjury in a container: aggregator, agents, or a whole federation.
#   docker build -t fedjury .
#   docker run --rm fedjury python run.py --n 200 --rounds 10 --broker-kind embedded
# docker-compose.yml puts broker, aggregator and agents together.
FROM python:3.11-slim

# torch's default build for Linux brings gigabytes of GPU libraries that nothing here uses. Give
# the address of torch's CPU-only packages to leave them out: --build-arg PIP_EXTRA_INDEX_URL=...
ARG PIP_EXTRA_INDEX_URL

RUN useradd --create-home --uid 1000 fedjury
WORKDIR /fedjury

# First what changes seldom: the packages are installed again only if their versions change.
COPY requirements.txt constraints.txt ./
RUN pip install --no-cache-dir -r requirements.txt -c constraints.txt

COPY . .
RUN pip install --no-cache-dir --no-deps -e .
RUN mkdir -p runs data shards && chown fedjury: runs data shards
USER fedjury

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
CMD ["python", "run.py", "--help"]
