# delivery-worker: GNU Make. `make help` lists the targets.

CC ?= cc
PKG_CONFIG ?= pkg-config
BUILD ?= build
VERSION := $(shell cat VERSION)

PACKAGES := rdkafka jansson libpq hiredis libevent_core libevent_extra
TEST_PACKAGES := check

# rediss://, where hiredis brings it (from 1.0 on); it does not compare names, so OpenSSL is asked to.
ifeq ($(shell $(PKG_CONFIG) --exists hiredis_ssl openssl && echo yes),yes)
PACKAGES += hiredis_ssl openssl
CPPFLAGS += -DHAVE_HIREDIS_SSL
endif

WARNINGS := -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
	-Wundef -Wvla -Wformat=2 -Wimplicit-fallthrough -Werror
HARDENING := -fstack-protector-strong -fstack-clash-protection -fPIE -D_FORTIFY_SOURCE=2
LINK_HARDENING := -pie -Wl,-z,relro,-z,now,-z,noexecstack
OPTIMIZE := -O2 -g

comma := ,
FUZZ_BUILD := $(BUILD)/fuzz
# make SANITIZE=address (with undefined), SANITIZE=thread; objects go to a folder of their own. SANITIZE=fuzz is that of
# `make fuzz`: clang, with its coverage for libFuzzer.
ifdef SANITIZE
override BUILD := $(BUILD)/$(SANITIZE)
sanitizers := $(SANITIZE)
ifeq ($(SANITIZE),address)
sanitizers := address$(comma)undefined
else ifeq ($(SANITIZE),fuzz)
sanitizers := fuzzer-no-link$(comma)address$(comma)undefined
CC := clang
# Which GCC's -Wconversion leaves out.
WARNINGS += -Wno-sign-conversion
endif
HARDENING := -fPIE -fsanitize=$(sanitizers) -fno-omit-frame-pointer -fno-sanitize-recover=all
OPTIMIZE := -O1 -g
LINK_HARDENING := -pie -fsanitize=$(sanitizers)
endif

# make FAILPOINTS=1: the worker with the fail points of worker/failpoint.h, also with SANITIZE.
ifdef FAILPOINTS
override BUILD := $(BUILD)/failpoints
CPPFLAGS += -DFAILPOINTS
endif

CPPFLAGS += -I. -I$(BUILD)/gen -D_GNU_SOURCE
CFLAGS += -std=c17 -pthread $(OPTIMIZE) $(WARNINGS) $(HARDENING) -ffile-prefix-map=$(CURDIR)/= \
	$(shell $(PKG_CONFIG) --cflags $(PACKAGES) 2>/dev/null)
LDFLAGS += $(LINK_HARDENING) -pthread
LDLIBS += $(shell $(PKG_CONFIG) --libs $(PACKAGES) 2>/dev/null)

# Everything but main is an archive, which the binary and the tests link.
SOURCES := $(sort $(wildcard common/*.c schemas/*.c worker/options.c worker/*/*.c)) $(if $(FAILPOINTS),worker/failpoint.c)
MIGRATIONS := $(sort $(wildcard schemas/migrations/*.sql))
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o) $(BUILD)/gen/migrations.o
ARCHIVE := $(BUILD)/libdelivery.a
BINARY := $(BUILD)/delivery-worker

TEST_SOURCES := $(sort $(wildcard tests/unit/test_*.c tests/component/test_*.c))
TEST_BINARIES := $(TEST_SOURCES:%.c=$(BUILD)/%)
# The simulation: all of tests/sim in one executable, in front of what it replaces.
SIM_SOURCES := $(sort $(wildcard tests/sim/*.c)) tests/lib/order_oracle.c
SIM_OBJECTS := $(SIM_SOURCES:%.c=$(BUILD)/%.o)
SIM := $(BUILD)/tests/sim/sim
TEST_TOOLS := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard tests/tools/*.c)))
PRELOADS := $(BUILD)/tests/lib/failing_malloc.so
FUZZ_TARGETS := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
BENCH_TOOLS := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard tests/bench/*_load.c)))

.PHONY: all binary tests fuzz-targets clean help
.DELETE_ON_ERROR:

all: $(BINARY) ## build the worker (default)
binary: $(BINARY)
tests: $(TEST_BINARIES) $(TEST_TOOLS) $(SIM) $(PRELOADS) $(BENCH_TOOLS)
fuzz-targets: $(FUZZ_TARGETS)

# V=1 shows the commands.
quiet = $(if $(V),,@printf '  %-6s %s\n' $(1) $(2);)

# ThreadSanitizer has to see librdkafka's threads and locks.
THREADS_SEEN := $(if $(filter thread,$(SANITIZE)),$(BUILD)/tests/lib/tsan_threads.o)

$(BINARY): $(BUILD)/worker/main.o $(THREADS_SEEN) $(ARCHIVE)
	$(call quiet,LINK,$@) $(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(ARCHIVE): $(OBJECTS)
	@rm -f $@
	$(call quiet,AR,$@) $(AR) rcs $@ $^

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(call quiet,CC,$<) $(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/gen/%.o: $(BUILD)/gen/%.c
	$(call quiet,CC,$<) $(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

# SQL migrations as C strings: one row a file, in order, its number from its name.
$(BUILD)/gen/migrations.c: $(MIGRATIONS) schemas/migrations.h
	@mkdir -p $(@D)
	@{ echo '#include "schemas/migrations.h"'; echo 'const struct migration migrations[] = {'; \
	for f in $(MIGRATIONS); do n=$${f##*/}; \
	printf '{%d, "%s",\n' "$$((10#$${n%%_*}))" "$$n" ; \
	sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/"/' -e 's/$$/\\n"/' $$f; echo '},'; done; \
	echo '};'; echo 'const size_t migration_count = sizeof(migrations) / sizeof(migrations[0]);'; } > $@

$(BUILD)/gen/migrations.c: SHELL := /bin/bash

$(BUILD)/common/version.o: VERSION
$(BUILD)/common/version.o: CPPFLAGS += -DVERSION='"$(VERSION)"'

$(BUILD)/tests/%: $(BUILD)/tests/%.o $(THREADS_SEEN) $(ARCHIVE)
	$(call quiet,LINK,$@) $(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) $(shell $(PKG_CONFIG) --libs $(TEST_PACKAGES))

$(BUILD)/tests/lib/%.so: tests/lib/%.c tests/lib/%.h
	@mkdir -p $(@D)
	$(call quiet,LINK,$@) $(CC) $(CPPFLAGS) -std=c17 $(OPTIMIZE) $(WARNINGS) -fPIC -shared -o $@ $<

$(BUILD)/tests/fuzz/%: LDFLAGS += -fsanitize=fuzzer

$(SIM): $(SIM_OBJECTS) $(ARCHIVE)
	$(call quiet,LINK,$@) $(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# The servers' side of it: tests/stack, tests/run.py. KAFKA=apache takes a real broker for the demo.
STACK := DW_TEST_BUILD=$(abspath $(BUILD)) PYTHONPATH=tests python3 -m stack

.PHONY: deps demo bench up down test fuzz soak crash mutants

deps: ## install what build and demo lack (Debian, Ubuntu; root or sudo)
	@tests/deps.sh build demo $(if $(filter apache,$(KAFKA)),kafka)

demo: deps ## servers, events, worker, audit; KAFKA=apache, EVENTS=file.ndjson, N=200000, SEED=1
	@$(MAKE) --no-print-directory binary $(BUILD)/tests/tools/mock_broker $(BUILD)/tests/tools/kafka_topics
	@KAFKA='$(KAFKA)' EVENTS='$(EVENTS)' N='$(N)' SEED='$(SEED)' $(STACK) demo

bench: ## figures with real servers; ONLY=W1,W4, N=400000, SEED=1, EVENTS=file.ndjson, FULL=1, PUBLISH=1
	@tests/deps.sh build demo kafka
	@tests/deps.sh bench || echo 'bench: goes on, without the profile of stages'
	@$(MAKE) --no-print-directory binary $(BUILD)/tests/tools/kafka_topics $(BENCH_TOOLS)
	@ONLY='$(ONLY)' N='$(N)' SEED='$(SEED)' EVENTS='$(EVENTS)' FULL='$(FULL)' PUBLISH='$(PUBLISH)' \
		DW_TEST_BUILD=$(abspath $(BUILD)) PYTHONPATH=tests python3 -m bench

# Its stdout is for the shell: everything that is no `export` goes to stderr.
up: ## eval "$(make up)" starts Kafka, PostgreSQL and Redis, leaves them running and says where they are
	@tests/deps.sh build demo kafka >&2
	@$(MAKE) --no-print-directory $(BUILD)/tests/tools/kafka_topics >&2
	@$(STACK) up

down: ## stop them and remove their folder
	@$(STACK) down

test: ## build and run all tests; SUITE=unit, ONLY=text narrow it
	@tests/deps.sh test
	@$(MAKE) --no-print-directory binary tests
	@$(if $(or $(filter fuzz faults,$(SUITE)),$(if $(SUITE),,all)),\
		$(MAKE) --no-print-directory SANITIZE=fuzz fuzz-targets binary)
	@$(if $(or $(filter faults,$(SUITE)),$(if $(SUITE),,all)),$(MAKE) --no-print-directory FAILPOINTS=1 binary)
	@DW_TEST_FUZZ=$(abspath $(FUZZ_BUILD)) tests/run.py --build $(BUILD) --only '$(ONLY)' $(SUITE)

fuzz: ## fuzz the parsers, SECONDS=60 each; TARGET=event takes one
	@tests/deps.sh fuzz
	@$(MAKE) --no-print-directory SANITIZE=fuzz fuzz-targets
	@DW_TEST_FUZZ=$(abspath $(FUZZ_BUILD)) python3 tests/fuzz/campaign.py --seconds '$(or $(SECONDS),60)' '$(TARGET)'

soak: ## the simulation with seeds of its own for SECONDS=600, then the faults at their full sizes
	@tests/deps.sh test
	@$(MAKE) --no-print-directory binary tests
	@$(MAKE) --no-print-directory SANITIZE=fuzz binary
	@$(MAKE) --no-print-directory FAILPOINTS=1 binary
	@$(SIM) --seconds $(or $(SECONDS),600) --jobs $(shell nproc)
	@DW_TEST_SCALE=full DW_TEST_FUZZ=$(abspath $(FUZZ_BUILD)) tests/run.py --build $(BUILD) --only '$(ONLY)' faults

crash: ## kill, freeze, stop workers at every fail point; RUNS=5, SEED=n, ONLY=text
	@tests/deps.sh test
	@$(MAKE) --no-print-directory binary $(BUILD)/tests/tools/kafka_topics $(BUILD)/tests/tools/kafka_records
	@$(MAKE) --no-print-directory FAILPOINTS=1 binary
	@DW_TEST_BUILD=$(abspath $(BUILD)) tests/faults/crash.py $(RUNS:%=--runs %) $(SEED:%=--seed %) --only '$(ONLY)'

mutants: ## plant bugs, each must be caught by the test that it names; ONLY=name narrows it
	@tests/deps.sh test
	@$(MAKE) --no-print-directory binary tests
	@$(MAKE) --no-print-directory FAILPOINTS=1 binary
	@tests/mutants/run.py --build $(BUILD) --only '$(ONLY)'

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

clean: ## remove what was built
	rm -rf $(BUILD)

-include $(OBJECTS:.o=.d) $(SIM_OBJECTS:.o=.d) $(THREADS_SEEN:.o=.d) $(BUILD)/worker/main.d \
	$(patsubst %,%.d,$(TEST_BINARIES) $(TEST_TOOLS) $(BENCH_TOOLS) $(FUZZ_TARGETS))
