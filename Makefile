# make          lists the targets
# VERSION and ARCH may be set: make deb ARCH=arm64

SHELL   := /bin/sh
GO      ?= go
ifndef VERSION
VERSION := $(shell packaging/version.sh)
endif
HOST    := $(shell $(GO) env GOHOSTARCH)
ARCH    ?= $(HOST)

# Programs of this computer's architecture are in bin/; another's are beside the packages.
BIN      := $(if $(filter $(ARCH),$(HOST)),bin,dist/$(ARCH)/bin)
STAGE    := dist/$(ARCH)/stage
COMMANDS := $(notdir $(patsubst %/,%,$(sort $(dir $(wildcard cmd/*/*.go)))))
LDFLAGS  := -s -w -X main.version=$(VERSION)

# runc comes from the module that go.mod pins, linked statically with libseccomp: what
# distributions ship crashes on current kernels.
RUNC_TAGS    := seccomp urfave_cli_no_docs netgo osusergo
RUNC_LDFLAGS := -s -w -linkmode external -extldflags -static-pie
CROSS        := $(CURDIR)/dist/$(ARCH)/libs
GNU.arm64    := aarch64-linux-gnu
GNU.amd64    := x86_64-linux-gnu
ifneq ($(ARCH),$(HOST))
RUNC_ENV := CC=$(GNU.$(ARCH))-gcc PKG_CONFIG_SYSROOT_DIR=$(CROSS)/root \
            PKG_CONFIG_LIBDIR=$(CROSS)/root/usr/lib/$(GNU.$(ARCH))/pkgconfig
endif

# What a computer that runs `make test` must have; there a skipped test is a failed one.
export PLOYZ_TEST_REQUIRE ?= root,runc,nspawn,overlay,tun,btrfs,dpkg,deb,shop-images,shellcheck,jq

.DEFAULT_GOAL := help
.PHONY: help build images programs runc cross deb rpm packages demo demo-clean test test-vm bench chaos generate clean deps deps-test

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1|\2/p' Makefile | while IFS='|' read -r t d; do printf '  make %-12s %s\n' $$t "$$d"; done

build: deps programs runc ## build every program, and runc, into bin/

deps:
	@packaging/install-deps.sh build

programs:
	@mkdir -p $(BIN)
	@set -e; for c in $(COMMANDS); do \
	    CGO_ENABLED=0 GOARCH=$(ARCH) $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/$$c ./cmd/$$c; done

runc: $(if $(RUNC_ENV),cross)
	@mkdir -p $(BIN)
	@$(RUNC_ENV) CGO_ENABLED=1 GOARCH=$(ARCH) $(GO) build -trimpath -buildmode=pie -tags '$(RUNC_TAGS)' \
	    -ldflags '$(RUNC_LDFLAGS)' -o $(BIN)/runc github.com/opencontainers/runc

cross:
	@packaging/install-deps.sh build cross
	@packaging/cross-libs.sh $(ARCH) $(CROSS)

deb: build ## make the .deb in dist/
	@$(call package,deb)

rpm: build ## make the .rpm in dist/
	@$(call package,rpm)

packages: ## make .deb and .rpm for amd64 and arm64
	@set -e; for a in amd64 arm64; do $(MAKE) --no-print-directory deb rpm ARCH=$$a; done

# ployzctl of this computer writes completions and man pages, whatever the architecture.
define package
set -e; [ -x bin/ployzctl ] || $(MAKE) --no-print-directory programs ARCH=$(HOST); \
packaging/stage.sh $(BIN) $(STAGE) bin/ployzctl; \
rm -f dist/ployz_*_$(ARCH).$(1) dist/ployz-*.$(if $(filter arm64,$(ARCH)),aarch64,x86_64).$(1); \
ARCH=$(ARCH) VERSION='$(VERSION)' STAGE=$(STAGE) $(GO) tool nfpm package --config packaging/nfpm.yaml --packager $(1) --target dist/
endef

demo: deb images ## show it all on one machine: install, deploy, kill the daemon under load
	@packaging/install-deps.sh dev
	@examples/demo.sh

demo-clean: ## remove what the demo made
	@[ ! -x bin/ployzctl ] || bin/ployzctl dev down --name demo

deps-test:
	@packaging/install-deps.sh test

test: deps-test deb images ## everything that CI runs
	@packaging/test.sh

test-vm: deps-test deb ## what only a real kernel shows, in QEMU: WireGuard, ZFS, limits, power cuts
	@packaging/install-deps.sh vm
	@PLOYZ_VM="$$(node/nodetest/vm/image/build.sh)" PLOYZ_TEST_REQUIRE=$(PLOYZ_TEST_REQUIRE),vm \
	    $(GO) tool gotestsum --format standard-verbose -- -count=1 -timeout 180m -p 1 ./node/nodetest/vm

images: ## the images of examples/, from Debian's packages
	@examples/build-images.sh
	@examples/build-images.sh --app-version v2

bench: deps-test deb images ## measure, as ratios in one run
	@$(GO) test -count=1 -run '^$$' -bench . -benchtime 1x -timeout 60m ./node/nodetest/...

SEED  ?= $(shell date +%s)
COUNT ?= 20000
chaos: ## simulate clusters in virtual time: SEED=first, COUNT=how many
	@$(GO) test -count=1 -timeout 0 -v -run 'TestSim$$' ./node/nodetest/sim -sim.from=$(SEED) -sim.count=$(COUNT)

generate: ## make generated sources anew
	@$(GO) generate ./...

clean: ## remove bin/ and dist/
	@rm -rf bin dist
