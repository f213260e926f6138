.PHONY: ci test lint bench zoo

ci:      ## what CI runs
	bash .ci/run
test:
	pytest -n 2
lint:
	ruff check . && ruff format --check . && pyright
bench:   ## speed claims; on a machine that is otherwise idle
	pytest tests/benchmarks --benchmark-enable -s
zoo:     ## train the shipped networks anew
	python suites/zoo/train.py
