.PHONY: ci test lint bench gpu zoo docs reports

ci:      ## what CI runs
	bash .ci/run
test:
	pytest -n 2
lint:
	ruff check . && ruff format --check . && pyright && lint-imports
bench:   ## speed claims; on a machine that is otherwise idle
	pytest tests/benchmarks --benchmark-enable -s
gpu:     ## all that needs an NVIDIA GPU, then the suite gpu; ends with the path of its bundle
	pytest tests/gpu -m gpu; tested=$$?; qbench run gpu && exit $$tested
zoo:     ## train the shipped networks anew
	python suites/zoo/train.py
docs:    ## the documentation site, in site/
	mkdocs build --strict
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
