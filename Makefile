# make demo and make test do everything on a fresh machine with Python >= 3.11.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install demo test test-fast faults image-check chart-check unit-check examples example-model lint reference docs audit kafka kafka-stop bench clean

help:
	@echo "make install    create $(VENV) with the package, training and test tools"
	@echo "make demo       train, run the daemon, inject faults, report"
	@echo "make test       every test, on a real Kafka where Java 17 and Maven are there"
	@echo "make test-fast  without Kafka, Prometheus and training"
	@echo "make faults     kills, stops, cuts and fills up whatever can be, on a real Kafka;"
	@echo "                FAULTS_SECONDS=1800 for a long soak, FAULTS_SEED=n to repeat one"
	@echo "make image-check  build the image step by step without Docker, and start it (root, Debian)"
	@echo "make unit-check   image-check, then a systemd that boots and runs the unit on its result"
	@echo "make chart-check  helm lint, helm template and kubeconform (needs Go; builds both)"
	@echo "make examples   run the notebook in an environment without the training tools"
	@echo "make example-model  train the small model of the examples anew"
	@echo "make lint       ruff and mypy"
	@echo "make reference  write config.yaml, its schema and docs from the code"
	@echo "make docs       the documentation as a site, build/site"
	@echo "make audit      bill of materials, licences and known faults of what the package brings"
	@echo "make kafka      start a local Apache Kafka on port 9092 (make kafka-stop ends it)"
	@echo "make bench      the benchmarks on the embedded broker"

install: $(STAMP)

$(STAMP): pyproject.toml $(wildcard detector/native/*.[ch])
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[train,parquet,plot,dev]'
	@touch $(STAMP)

demo: install
	$(BIN)/detector demo $(if $(JSON),--json)

# Three on two cores: daemons, brokers and browsers are waited for. The longest files begin first.
WORKERS ?= 3
PARALLEL := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: install lint
	$(BIN)/python -m pytest -m "not faults and not outside" $(PARALLEL)

test-fast: install
	$(BIN)/python -m pytest -m "not kafka and not training and not faults and not outside" $(PARALLEL)

faults: install
	$(BIN)/python -m pytest tests/faults -m faults

image-check: install
	$(BIN)/python -m pytest tests/deploy/test_image.py -m outside

unit-check: image-check
	$(BIN)/python -m pytest tests/deploy/test_unit_boots.py -m outside

CHART_TOOLS := build/tools
$(CHART_TOOLS)/kubeconform:
	GOBIN=$(CURDIR)/$(CHART_TOOLS) CGO_ENABLED=0 go install github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0
$(CHART_TOOLS)/helm:
	GOBIN=$(CURDIR)/$(CHART_TOOLS) CGO_ENABLED=0 go install helm.sh/helm/v3/cmd/helm@v3.19.0

chart-check: install $(CHART_TOOLS)/helm $(CHART_TOOLS)/kubeconform
	$(BIN)/python -m pytest tests/deploy/test_chart_rendered.py -m outside

examples:
	$(PYTHON) -m venv $(VENV)-examples
	$(VENV)-examples/bin/python -m pip install --quiet --disable-pip-version-check \
		-e '.[plot]' pandas ipykernel nbclient
	rm -rf var/examples && mkdir -p var && cp -r docs/examples var/examples
	cd var/examples && ../../$(VENV)-examples/bin/jupyter-execute notebook.ipynb --output out.ipynb
	@echo "docs/examples/notebook.ipynb: every cell ran; with its output: var/examples/out.ipynb"

example-model: install
	$(BIN)/python docs/examples/make_model.py

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy deploy/grafana/source/*.py

reference: install
	$(BIN)/python docs/generate.py
	$(BIN)/python deploy/grafana/source/make.py

docs: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/site
	@echo "build/site/index.html"

audit:
	$(PYTHON) deploy/audit.py

kafka:
	bash deploy/kafka/kafka.sh start --data var/kafka

kafka-stop:
	bash deploy/kafka/kafka.sh stop --data var/kafka

bench: install
	$(BIN)/detector bench scoring
	$(BIN)/detector bench latency
	$(BIN)/detector bench stages
	$(BIN)/detector bench pipeline
	$(BIN)/detector bench memory
	$(BIN)/detector bench startup

clean:
	rm -rf $(VENV) $(VENV)-examples $(VENV)-audit build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
