# Included by the Makefile at the top. Nothing else depends on it: Coq is not needed for the book.
.PHONY: proofs
proofs: ## check the Coq proofs (a few minutes; proofs/README.md says what it takes)
	@$(PYTHON) proofs/check.py
