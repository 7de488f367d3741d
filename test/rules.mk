# SPDX-License-Identifier: Apache-2.0
#
# rules.mk - how the tests and their programs are built and run; part of the Makefile.

test: deps-test
	@test/run

test-all: deps-all
	@test/run --all $(GROUP)

lint: deps-lint
	@test/run lint

demo: deps-demo
	$(MAKE) all
	test/demo

mutants: deps-test
	@test/mutants/run

# ---- flavours: the program's objects and the unit tests, for the host's C library -----------------
# With the sanitizers in build/asan, without in build/valgrind, with counters in build/coverage. A unit
# test that needs a file's statics includes that file, and is not linked with its object.

UNIT = $(patsubst test/unit/%.c,%,$(wildcard test/unit/*.c))
# The runtime of those with a daemon in them: a program of this machine, whatever ARCH is.
FAKERUNTIME = build/test/fake-runtime
HOSTFLAGS = $(WARN) -Wno-stack-usage -g -O1 -D_GNU_SOURCE -DUNIT_TEST -DVERSION='"test"' -I. -I$(B)/pb
HOSTOBJ = $(filter-out shim.o,$(SRC:.c=.o)) $(PROTO:%=%.pb.o)
SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=all

# $(call linked,DIRECTORY,SOURCE...): those of HOSTOBJ that the sources do not include.
linked = $$(for object in $(HOSTOBJ); do \
	grep -q "^.include \"\(\.\./\)*$${object%.o}\.c\"" $(2) || echo "$(1)/$$object"; done)

define flavour
$(B)/$(1)/%.o: %.c Makefile test/rules.mk $(B)/pb/.done
	@mkdir -p $$(@D)
	@gcc $(HOSTFLAGS) $(2) -MMD -MP -c -o $$@ $$<

$(B)/$(1)/%.pb.o: $(B)/pb/.done
	@mkdir -p $$(@D)
	@gcc -g -O1 $(2) -I. -I$(B)/pb -c -o $$@ $(B)/pb/$$*.pb.c

$(B)/$(1)/unit-%.o: test/unit/%.c Makefile test/rules.mk $(B)/pb/.done
	@mkdir -p $$(@D)
	@echo "  CC $$@"
	@gcc $(HOSTFLAGS) $(2) -MMD -MP -c -o $$@ $$<

$(B)/$(1)/unit-%: $(B)/$(1)/unit-%.o $(HOSTOBJ:%=$(B)/$(1)/%) | $(FAKERUNTIME)
	@gcc $(2) -o $$@ $$< $$(call linked,$(B)/$(1),test/unit/$$*.c $$(wildcard test/unit/*.h)) -lprotobuf-nanopb -lcmocka

-include $(wildcard $(B)/$(1)/*.d)
endef

$(eval $(call flavour,asan,$(SANITIZE)))
$(eval $(call flavour,valgrind,))
# In a child of vfork(2) gcc's own execve(2) would write the counters, and the parent not any more.
COUNT = --coverage -fno-builtin-execve
$(eval $(call flavour,coverage,$(COUNT)))

unit: $(UNIT:%=$(B)/asan/unit-%)

memcheck: $(UNIT:%=$(B)/valgrind/unit-%)

# The whole program with the sanitizers, for the integration tests; what they find is in REPORTS.
REPORTS = $(abspath $(B)/asan/reports)
ASANLINK = $(HOSTFLAGS) $(SANITIZE) -static-libasan -static-libubsan
PROGRAM = shim.o $(HOSTOBJ)

$(B)/asan/nanoshim: test/asan/options.c $(PROGRAM:%=$(B)/asan/%)
	@echo "  LD $@"
	@gcc $(ASANLINK) -DREPORTS='"$(REPORTS)"' -o $@ $^ -lprotobuf-nanopb

# Its findings are not those of the tests that run beside it.
$(B)/asan/planted: test/asan/planted.c test/asan/options.c util.h
	@mkdir -p $(@D)
	@gcc $(ASANLINK) -DREPORTS='"$(REPORTS)-planted"' -o $@ $(filter %.c,$^)

asan: $(addprefix $(B)/asan/,nanoshim nanoshim-faults planted)
	@mkdir -p $(REPORTS)

$(B)/coverage/nanoshim: $(PROGRAM:%=$(B)/coverage/%)
	@echo "  LD $@"
	@gcc $(COUNT) -o $@ $^ -lprotobuf-nanopb

coverage: deps-coverage
	@$(MAKE) -s fake $(B)/coverage/nanoshim $(UNIT:%=$(B)/coverage/unit-%)
	@test/coverage

# ---- fuzzing: every parser, and the service as a whole ------------------------------------------
# The shim's system calls become those of a world of their own (test/fuzz/world.syms). `make fuzz`
# looks for new inputs with libFuzzer, FUZZ_TIME seconds for each target; `make test` runs the old
# ones again, built as the unit tests are.
FUZZ = $(filter-out world replay,$(patsubst test/fuzz/%.c,%,$(wildcard test/fuzz/*.c)))
FUZZ_TIME = 900
FUZZDEPS = test/fuzz/world.syms $(wildcard test/*.h test/fuzz/*.h *.h)
CLANGFLAGS = $(filter-out -Wstack-usage=3072,$(WARN)) -Wno-bitwise-instead-of-logical -g -O1 \
	-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all \
	-D_GNU_SOURCE -DUNIT_TEST -DVERSION='"test"' -I. -I$(B)/pb
RENAME = objcopy --redefine-syms=test/fuzz/world.syms
FUZZLINK = $(call linked,$(@D),test/fuzz/$*.c $$(grep -q '^.include "daemon.h"' test/fuzz/$*.c && echo test/fuzz/daemon.h))

$(B)/replay/%.o: $(B)/asan/%.o test/fuzz/world.syms
	@mkdir -p $(@D)
	@$(RENAME) $< $@

$(B)/replay/world.o $(B)/replay/replay.o: $(B)/replay/%.o: test/fuzz/%.c $(FUZZDEPS) $(B)/pb/.done
	@mkdir -p $(@D)
	@gcc $(HOSTFLAGS) $(SANITIZE) -c -o $@ $<

$(B)/replay/fuzz-%: test/fuzz/%.c $(FUZZDEPS) $(wildcard *.c) \
		$(addprefix $(B)/replay/,world.o replay.o $(HOSTOBJ))
	@echo "  CC $@"
	@gcc $(HOSTFLAGS) $(SANITIZE) -c -o $@.o $< && $(RENAME) $@.o
	@gcc $(SANITIZE) -o $@ $@.o $(@D)/world.o $(@D)/replay.o $(FUZZLINK) -lprotobuf-nanopb

$(B)/fuzz/%.o: %.c $(wildcard *.h) $(B)/pb/.done test/fuzz/world.syms
	@mkdir -p $(@D)
	@clang $(CLANGFLAGS) -c -o $@ $< && $(RENAME) $@

$(B)/fuzz/%.pb.o: $(B)/pb/.done test/fuzz/world.syms
	@mkdir -p $(@D)
	@clang $(CLANGFLAGS) -w -c -o $@ $(B)/pb/$*.pb.c && $(RENAME) $@

$(B)/fuzz/world.o: test/fuzz/world.c $(FUZZDEPS) $(B)/pb/.done
	@mkdir -p $(@D)
	@clang $(CLANGFLAGS) -c -o $@ $<

$(B)/fuzz/fuzz-%: test/fuzz/%.c $(FUZZDEPS) $(wildcard *.c) \
		$(addprefix $(B)/fuzz/,world.o $(HOSTOBJ))
	@echo "  CLANG $@"
	@clang $(CLANGFLAGS) -c -o $@.o $< && $(RENAME) $@.o
	@clang -fsanitize=fuzzer,address,undefined -o $@ $@.o $(@D)/world.o $(FUZZLINK) \
		-lprotobuf-nanopb

replay: $(FUZZ:%=$(B)/replay/fuzz-%)

fuzz: deps-fuzz
	@$(MAKE) $(FUZZ:%=$(B)/fuzz/fuzz-%)
	@test/fuzz/run $(FUZZ_TIME) $(FUZZ)

# ---- unit tests for another machine: linked as the program is, run under qemu-user --------------
# Not what needs to know what the emulator has open, forks, or puts in the way of system calls.
ARCHUNIT = $(patsubst %,$(B)/arch/unit-%,$(filter-out mount runtime,$(UNIT)))
ARCHFLAGS = $(WARN) -Wno-stack-usage -O1 -fPIE -fvisibility=hidden -Itest/arch -DUNIT_TEST $(CPPFLAGS)
ARCHOBJ = $(patsubst %.c,$(B)/arch/%.o,$(filter-out shim.c,$(SRC)))

$(B)/arch/%.o: %.c $(wildcard *.h) $(K)/.done $(B)/pb/.done Makefile
	@mkdir -p $(@D)
	@$(CC) $(ARCHFLAGS) -c -o $@ $<

$(B)/arch/%.pb.o: $(B)/pb/%.pb.o
	@mkdir -p $(@D)
	@ln -sf $(abspath $<) $@

$(B)/arch/unit-%: test/unit/%.c $(wildcard test/unit/*.h test/*.h) test/arch/cmocka.h shim.c $(HOSTOBJ:%=$(B)/arch/%) \
		| $(FAKERUNTIME)
	@echo "  CC $@"
	@$(CC) $(ARCHFLAGS) -c -o $@.o $<
	@$(LINK) $(LDFLAGS) -o $@ $(MUSL)/rcrt1.o $(MUSL)/crti.o $@.o \
		$(call linked,$(B)/arch,test/unit/$*.c) $(LINKLIBS)

unit-arch: $(ARCHUNIT)

# All other machines' programs and unit tests.
all-arches:
	@for arch in $(filter-out $(MACHINE),$(ARCHES)); do \
		$(MAKE) -s ARCH=$$arch all unit-arch || exit; \
	done

# ---- figures: make bench N=30 RUNTIME=runc -------------------------------------------------------
bench: deps-bench
	@$(MAKE) -s all
	@N=$(N) RUNTIME=$(RUNTIME) $(PYTHON) test/bench/bench.py

# Memory of containers in a virtual machine of 256 MiB; ten minutes under emulation.
density: deps-bench
	@$(MAKE) -s all $(B)/test/idle
	@test/density/compare $(B)/nanoshim

# The smallest process there is: linked like the program, but with nothing to relocate.
$(B)/test/idle: test/density/idle.c $(K)/.done Makefile
	@mkdir -p $(@D)
	@$(CC) $(WARN) $(CFLAGS) -fno-stack-protector -D_GNU_SOURCE -c -o $@.o $<
	@$(LINK) $(filter-out -T nanoshim.ld %pack-relative-relocs,$(LDFLAGS)) -Wl,-z,norelro -o $@ \
		$(MUSL)/rcrt1.o $(MUSL)/crti.o $@.o $(LINKLIBS)

# ---- tests on the fake runtime --------------------------------------------------------------------
# make race, soak, faults: at length what make test does in short; RACE=, SOAK= and REAL= (seconds
# with each real runtime), ROUNDS= say how much; build/test/race prints the seed to repeat a run with.
FAKE = $(FAKERUNTIME) $(B)/test/race $(B)/test/nanoshim-faults $(B)/test/oldkernel
RACE = --containers 10000 --execs 28
SOAK = --containers 20000 --execs 50 --idle 60
REAL = 600
ROUNDS = 1000

$(FAKERUNTIME): test/fake/runtime.c
	@mkdir -p $(@D)
	@echo "  CC $@"
	@musl-gcc $(WARN) -Wno-stack-usage -D_GNU_SOURCE -Os -static -s -o $@ $<

$(B)/test/race: test/race/race.c test/fake/fault.h $(wildcard test/*.h) ttrpc.h loop.h util.h
	@mkdir -p $(@D)
	@echo "  CC $@"
	@gcc $(WARN) -Wno-stack-usage -D_GNU_SOURCE -g -O1 -pthread -o $@ $<

$(B)/test/oldkernel: test/fake/oldkernel.c
	@mkdir -p $(@D)
	@echo "  CC $@"
	@gcc $(WARN) -D_GNU_SOURCE -O1 -o $@ $<

# The daemon's own objects; what they call of the C library goes through fault.c, a part of which
# runs before main(): the addresses in it can't wait for relocate.c.
WRAPS = $(shell sed -n 's/^\tX.\([a-z0-9_]*\), .*/-Wl,--wrap=\1/p' test/fake/fault.h)

$(B)/test/fault.o: test/fake/fault.c test/fake/fault.h $(K)/.done
	@mkdir -p $(@D)
	@echo "  CC $@"
	@$(CC) $(WARN) $(CFLAGS) $(CPPFLAGS) -c -o $@ $<

$(B)/test/nanoshim-faults: $(B)/nanoshim $(B)/test/fault.o
	@echo "  LD $@"
	@$(LINK) $(filter-out %pack-relative-relocs,$(LDFLAGS)) $(WRAPS) -o $@ $(MUSL)/rcrt1.o $(MUSL)/crti.o $(OBJ) $(B)/test/fault.o \
		$(LINKLIBS)

# Only what the daemon's objects call is wrapped, not what the sanitizers do.
$(B)/asan/faulty.o: test/fake/fault.c test/fake/fault.h $(PROGRAM:%=$(B)/asan/%)
	@gcc $(WARN) -D_GNU_SOURCE -g -O1 -c -o $(B)/asan/fault.o $<
	@gcc -r -nostdlib $(WRAPS) -o $@ $(filter %.o,$^) $(B)/asan/fault.o

$(B)/asan/nanoshim-faults: test/asan/options.c $(B)/asan/faulty.o
	@echo "  LD $@"
	@gcc $(ASANLINK) -DREPORTS='"$(REPORTS)"' -o $@ $^ -lprotobuf-nanopb

fake: $(FAKE)

race: all fake
	$(B)/test/race $(RACE)

soak: all fake
	$(B)/test/race --soak $(SOAK)
	RUNTIME=runc test/fake/soak.py $(REAL)
	RUNTIME=crun test/fake/soak.py $(REAL)

faults: all fake
	$(B)/test/race --faults $(ROUNDS)

# ---- what the tests are run against ---------------------------------------------------------------
peers:
	@test/peers

.PHONY: test test-all lint demo mutants unit memcheck asan coverage replay fuzz unit-arch all-arches \
	bench density fake race soak faults peers
