# kelp's build and test entry points. `make help` lists them.

PREFIX  ?= /usr/local
DESTDIR ?=
GO      ?= go

export CGO_ENABLED := 1
export GOFLAGS     := -tags=containers_image_openpgp,exclude_graphdriver_btrfs,netgo,osusergo,seccomp,urfave_cli_no_docs

KEEPER  := engine/keeper/program/bin/kelp-keeper
GREETER := apiserver/cmd/demo/bin/greeter

.PHONY: all build embedded check format lint unit test soak demo bench fuzz install clean help

all: build

build: embedded ## build bin/kelp (the default)
	@GO="$(GO)" hack/build bin/kelp .

# What is embedded in kelp is built first. go build leaves a program as it is
# when nothing that it is made of has changed.
embedded:
	@hack/need-build-tools
	@GO="$(GO)" hack/build $(KEEPER) ./engine/keeper/kelp-keeper
	@CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags "-s -w" -o $(GREETER) ./apiserver/cmd/demo/greeter

check: embedded format lint unit ## what must hold before a commit lands; under a minute when warm

format:
	@GO="$(GO)" hack/check-format

lint:
	$(GO) vet ./...
	$(GO) tool -modfile=hack/tools/go.mod staticcheck ./...
	@! command -v shellcheck >/dev/null || shellcheck $$(find hack -maxdepth 1 -type f) .ci/run

# Tests that start a daemon are in test/ and run by `make test` only.
unit: embedded
	$(GO) test $$($(GO) list ./... | grep -v /kelp/test/) ./test/arch ./test/apidef ./test/coverage ./test/images ./test/registry

test: build ## install what tests need and run every test
	@hack/setup-test-user
	@GO="$(GO)" hack/setup-clients
	$(GO) test -timeout 10m $$($(GO) list ./... | grep -v /kelp/test/)
	$(GO) test -count=1 -p 1 -timeout 20m ./test/...

soak: build ## load kelp with 50 clients for ten minutes and kill its engine every 20 s
	@hack/setup-test-user
	$(GO) test -count=1 -timeout 30m -v ./test/soak -soak 10m

demo: build ## run a container from the embedded image as an ordinary user
	@hack/setup-test-user
	@hack/demo

bench: build ## compare with runc, crun, podman, pasta and slirp4netns where installed
	@hack/setup-test-user
	@GO="$(GO)" hack/bench-peers
	$(GO) test -count=1 -timeout 30m -run '^$$' -bench . -benchtime 1x ./test/bench

fuzz: ## fuzz each decoder of foreign input for a few seconds
	@GO="$(GO)" hack/fuzz

install: ## install bin/kelp below DESTDIR/PREFIX
	@test -x bin/kelp || { echo "bin/kelp is missing: run 'make' first" >&2; exit 1; }
	install -D -m 0755 bin/kelp "$(DESTDIR)$(PREFIX)/bin/kelp"

clean: ## remove what make built
	rm -rf bin $(KEEPER) $(GREETER)

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 10
