.PHONY: ci test lint bench gpu zoo docs wheel reports

ci:      ## everything that CI runs
	bash .ci/run
test:
	pytest -n 2
lint:
	ruff check . && ruff format --check . && pyright && lint-imports
bench:   ## check the claims about speed; needs an idle machine
	pytest tests/benchmarks --benchmark-enable -s
gpu:     ## the tests that need an NVIDIA GPU, then the suite gpu; prints the path of its bundle last
	pytest tests/gpu -m gpu; tested=$$?; qbench run gpu && exit $$tested
zoo:     ## retrain the shipped networks
	python suites/zoo/train.py
docs:    ## the documentation site, in site/
	mkdocs build --strict
wheel:   ## dist/qbench_inference-*.whl, to install on other machines
	python -m pip wheel --no-deps --wheel-dir dist .
reports: ## the published pages, from the reference bundles
	rm -rf reports/reference && mkdir -p reports/reference
	qbench report results/reference/*-quick-* --limit 'p99<=0.5ms' --limit 'accuracy_drop<=1pp' \
		-o reports/reference/which-chip.html
	qbench site results/reference -o reports/reference/site
	qbench figure results/reference/*-quick-* speedup -o reports/reference/quick-speedup.svg
	qbench figure results/reference/*-imagenet_edge-* accuracy --model mobilenet_v2_100_224 \
		-o reports/reference/mobilenet_v2-accuracy.svg
	qbench figure results/reference/*-quick-37b5 distributions --model digits_vit \
		-o reports/reference/quick-distributions.svg
	qbench figure results/reference/*-sweep-* throughput -o reports/reference/sweep-throughput.svg
