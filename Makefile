# SPDX-License-Identifier: Apache-2.0
#
# make            build/nanoshim: one static-pie binary against musl
# make ARCH=...   build/ARCH/nanoshim for another machine: amd64, arm64, armhf, i386 or riscv64
# make release    all of these in build/release/, the same bytes wherever they are made
# make test       unit and integration tests (root; installs what is missing)
# make lint       clang-format, clang-tidy, cppcheck, scan-build, and the order of the layers
# make fuzz       looks for inputs that do harm: clang, FUZZ_TIME=900 seconds a target
# make race       ten thousand containers that end at every moment there is
# make soak       a million execs, and real ones for twenty minutes: nothing may grow
# make faults     system calls that fail, round after round
# make test-asan  the integration tests with the sanitizers in the program
# make test-arch  the other machines' programs, built and run under qemu-user
# make bench      speed and memory beside the Go shim: table, CSV, plot (N=, RUNTIME=; root)
# make density    how many containers fit into a small virtual machine (ten minutes)
# make size       what is in the program, and its largest stack frames
# make demo       real containers under a real containerd, beside the Go shim (root)
# make install    DESTDIR= PREFIX=/usr/local
# make deps       install the packages all of this needs (root), or say which

VERSION = 0.1.0
PREFIX ?= /usr/local
PYTHON = /usr/bin/python3

# ---- the machine it is for -----------------------------------------------------------------------
# Another one needs its cross compiler (make deps-cross) and has its musl and nanopb unpacked.
MACHINE := $(shell dpkg --print-architecture)
ARCH = $(MACHINE)
ARCHES = amd64 arm64 armhf i386 riscv64
TRIPLE_amd64 = x86_64-linux-gnu
TRIPLE_arm64 = aarch64-linux-gnu
TRIPLE_armhf = arm-linux-gnueabihf
TRIPLE_i386 = i386-linux-gnu
TRIPLE_riscv64 = riscv64-linux-gnu
GNU = $(TRIPLE_$(ARCH))
ifeq ($(GNU),)
$(error ARCH=$(ARCH) is none of $(ARCHES))
endif
ifeq ($(ARCH),$(MACHINE))
B = build
else
B = build/$(ARCH)
CROSS = $(GNU:i386%=i686%)-
SYS = build/sysroot/$(ARCH)
SYSROOT = $(SYS)/.done
endif
LIBC = $(subst -gnu,-musl,$(GNU))
MUSL = $(SYS)/usr/lib/$(LIBC)
LIBDIR = $(SYS)/usr/lib/$(GNU)
LINK = $(CROSS)gcc
CC = $(LINK) -nostdinc -isystem $(SYS)/usr/include/$(LIBC) \
	-isystem $(shell $(LINK) -print-file-name=include)

# ---- the program ----------------------------------------------------------------------------------

SRC = util.c relocate.c json.c loop.c ttrpc.c runtime.c options.c io.c mount.c cgroup.c event.c op.c container.c verb.c create.c life.c task.c action.c shim.c
PROTO = ttrpc types task events options
PB = $(PROTO:%=$(B)/pb/%.pb.c)
OBJ = $(SRC:%.c=$(B)/%.o) $(PB:.c=.o)
NAMES = containerd-shim-runc-v2 containerd-shim-runc-v1 containerd-shim-crun-v2 containerd-shim-nano-v2

# The kernel's and nanopb's headers by links in a folder of their own: the whole of /usr/include
# would let glibc's headers leak in.
K = $(B)/include
KLINKS = linux asm-generic asm pb.h pb_common.h pb_decode.h pb_encode.h jsmn.h

WARN = -std=gnu11 -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wpointer-arith -Wwrite-strings -Wformat=2 -Wswitch-enum -Wvla -Wundef -Wstack-usage=3072
# Hidden: nothing but relative relocations may be left, a static program applies no others.
CFLAGS = -Oz -fPIE -fvisibility=hidden -fstack-protector-strong -ffunction-sections -fdata-sections \
	-fno-asynchronous-unwind-tables -fno-unwind-tables -fmerge-all-constants \
	-fno-inline-functions-called-once -fno-optimize-sibling-calls -fno-move-loop-invariants \
	$(CFLAGS_$(ARCH))
CFLAGS_amd64 = -malign-data=abi
CFLAGS_i386 = -malign-data=abi
CPPFLAGS = -D_GNU_SOURCE -DVERSION='"$(VERSION)"' -I. -I$(B)/pb -idirafter $(K)
# Few segments and few pages: nanoshim.ld. RELRO is up to relocate.c in a static program, and so are
# packed relocations - where the start-up code finds main() without one.
LDFLAGS = -nostdlib -nostartfiles -static-pie -s -T nanoshim.ld -Wl,--gc-sections,--build-id=none \
	-Wl,--no-dynamic-linker,--sort-section=alignment,-z,relro,-z,now,-z,noseparate-code,-z,noexecstack \
	$(LDFLAGS_$(ARCH))
LDFLAGS_amd64 = -Wl,-z,pack-relative-relocs

LINKLIBS = -Wl,--start-group $(LIBDIR)/libprotobuf-nanopb.a $(MUSL)/libc.a \
	$$($(LINK) -print-libgcc-file-name) -Wl,--end-group $(MUSL)/crtn.o

all: $(B)/nanoshim

$(B)/nanoshim: $(OBJ) nanoshim.ld
	@echo "  LD $@"
	@$(LINK) $(LDFLAGS) -o $@ $(MUSL)/rcrt1.o $(MUSL)/crti.o $(OBJ) \
		$(LINKLIBS)

$(B)/%.o: %.c Makefile $(K)/.done $(B)/pb/.done
	@echo "  CC $<"
	@$(CC) $(WARN) $(CFLAGS) $(CPPFLAGS) -MMD -MP -c -o $@ $<

# Short-lived processes need not be frugal.
$(B)/action.o: WARN += -Wno-stack-usage

# nanopb's descriptors are written by its generator: our warnings are not its concern.
$(B)/pb/%.o: Makefile $(K)/.done $(B)/pb/.done
	@$(CC) $(CFLAGS) $(CPPFLAGS) -c -o $@ $(B)/pb/$*.c

# PATH: the generator's interpreter is the distribution's python3, whatever comes first elsewhere.
$(B)/pb/.done: $(wildcard proto/*)
	@mkdir -p $(@D)
	@PATH=/usr/bin:/bin protoc --nanopb_out=$(@D) --nanopb_opt=-Iproto -Iproto $(PROTO:%=%.proto)
	@touch $@

$(K)/.done: $(SYSROOT)
	@mkdir -p $(@D)
	@for f in $(KLINKS); do \
		for d in $(SYS:%=$(CURDIR)/%)/usr/include /usr/include; do \
			for p in $$d/$(GNU)/$$f $$d/$$f $$d/nanopb/$$f; do \
				[ -e $$p ] && ln -sfn $$p $(K)/$$f && break 2; \
			done; \
		done || { echo "no <$$f>" >&2; exit 1; }; \
	done
	@touch $@

# Debian 12 does not have riscv64 yet. While a mirror is being updated one suite's index may not be had,
# then the next one will do.
build/sysroot/%/.done:
	@echo "  GET $(@D)"
	@. /etc/os-release; suites=$$VERSION_CODENAME; \
	[ $* != riscv64 ] || suites="trixie forky"; \
	for suite in $$suites; do \
		test/density/getroot.sh $* $(@D) $$suite musl-dev linux-libc-dev libnanopb-dev && \
			touch $@ && exit; \
	done; exit 1

# ---- unit tests: the host's C library, so that cmocka, the sanitizers and valgrind work --------
# A test that needs a file's statics includes that file; it is then left out of its link.
UNIT = $(patsubst test/unit/%.c,$(B)/test/unit-%,$(wildcard test/unit/*.c))
# $(call linked,OBJECTS,DIRECTORY): those a test is linked with.
linked = $$(echo $(1) | tr ' ' '\n' | grep -vxF "$$(sed -n 's|^\#include "../../\(.*\)\.c"|$(2)/\1.o|p' $<)")
UNITFLAGS = $(WARN) -Wno-stack-usage -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all \
	-D_GNU_SOURCE -DUNIT_TEST -DVERSION='"test"' -I. -I$(B)/pb
UNITOBJ = $(patsubst %.c,$(B)/asan/%.o,$(filter-out shim.c,$(SRC))) \
	$(PROTO:%=$(B)/asan/%.pb.o)

$(B)/asan/%.o: %.c $(wildcard *.h) $(B)/pb/.done
	@mkdir -p $(@D)
	@echo "  CC $@"
	@gcc $(UNITFLAGS) -c -o $@ $<

$(B)/asan/%.pb.o: $(B)/pb/.done
	@mkdir -p $(@D)
	@gcc -g -O1 -fsanitize=address,undefined -I. -I$(B)/pb -c -o $@ $(B)/pb/$*.pb.c

$(B)/test/unit-%: test/unit/%.c $(wildcard test/unit/*.h) test/wire.h shim.c $(UNITOBJ)
	@mkdir -p $(@D)
	@echo "  CC $@"
	@gcc $(UNITFLAGS) -o $@ $< \
		$(call linked,$(UNITOBJ),$(B)/asan) \
		-lprotobuf-nanopb -lcmocka

unit: $(UNIT)

# The same without the sanitizers, for valgrind.
MEMCHECK = $(UNIT:$(B)/test/%=$(B)/valgrind/%)
MEMCHECKFLAGS = $(filter-out -fsanitize% -fno-sanitize%,$(UNITFLAGS))
MEMCHECKOBJ = $(UNITOBJ:$(B)/asan/%=$(B)/valgrind/%)

$(B)/valgrind/%.o: %.c $(wildcard *.h) $(B)/pb/.done
	@mkdir -p $(@D)
	@gcc $(MEMCHECKFLAGS) -c -o $@ $<

$(B)/valgrind/%.pb.o: $(B)/pb/.done
	@mkdir -p $(@D)
	@gcc -g -O1 -I. -I$(B)/pb -c -o $@ $(B)/pb/$*.pb.c

$(B)/valgrind/unit-%: test/unit/%.c $(wildcard test/unit/*.h) test/wire.h shim.c $(MEMCHECKOBJ)
	@echo "  CC $@"
	@gcc $(MEMCHECKFLAGS) -o $@ $< \
		$(call linked,$(MEMCHECKOBJ),$(B)/valgrind) \
		-lprotobuf-nanopb -lcmocka

memcheck: $(MEMCHECK)

# The whole program with the sanitizers, for the integration tests; what they find is in REPORTS.
REPORTS = $(abspath $(B)/asan/reports)
ASANFLAGS = $(UNITFLAGS) -DREPORTS='"$(REPORTS)"' -static-libasan -static-libubsan

$(B)/asan/nanoshim: test/asan/options.c $(UNITOBJ) $(B)/asan/shim.o
	@echo "  LD $@"
	@gcc $(ASANFLAGS) -o $@ $^ -lprotobuf-nanopb

$(B)/asan/planted: test/asan/planted.c test/asan/options.c util.h
	@mkdir -p $(@D)
	@gcc $(ASANFLAGS) -o $@ $(filter %.c,$^)

asan: $(B)/asan/nanoshim $(B)/asan/nanoshim-faults $(B)/asan/planted

test-asan: deps
	$(MAKE) all asan fake
	test/run asan

# ---- fuzzing: every parser, and the service as a whole ------------------------------------------
# The shim's system calls become those of a world of their own (test/fuzz/world.syms). `make fuzz`
# looks for new inputs with libFuzzer, FUZZ_TIME seconds for each target; `make test` runs the old
# ones again, built as the unit tests are.
FUZZ = $(filter-out world replay,$(patsubst test/fuzz/%.c,%,$(wildcard test/fuzz/*.c)))
FUZZ_TIME = 900
FUZZDEPS = test/fuzz/world.syms test/wire.h $(wildcard test/fuzz/*.h) $(wildcard *.h)
CLANGFLAGS = $(filter-out -Wstack-usage=3072,$(WARN)) -Wno-bitwise-instead-of-logical -g -O1 \
	-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all \
	-D_GNU_SOURCE -DUNIT_TEST -DVERSION='"test"' -I. -I$(B)/pb
RENAME = objcopy --redefine-syms=test/fuzz/world.syms
SHIMOBJ = $(patsubst %.c,%.o,$(filter-out shim.c,$(SRC))) $(PROTO:%=%.pb.o)

# Without the files that the target, or its daemon.h, includes.
FUZZLINK = $$(echo $(SHIMOBJ) | tr ' ' '\n' | grep -vxF "$$(sed -n 's|^\#include "../../\(.*\)\.c"|\1.o|p' \
	test/fuzz/$*.c $$(sed -n 's|^\#include "\(daemon\.h\)"|test/fuzz/\1|p' test/fuzz/$*.c))" | \
	sed 's|^|$(@D)/|')

$(B)/replay/%.o: $(B)/asan/%.o test/fuzz/world.syms
	@mkdir -p $(@D)
	@$(RENAME) $< $@

$(B)/replay/world.o $(B)/replay/replay.o: $(B)/replay/%.o: test/fuzz/%.c $(FUZZDEPS) $(B)/pb/.done
	@mkdir -p $(@D)
	@gcc $(UNITFLAGS) -c -o $@ $<

$(B)/replay/fuzz-%: test/fuzz/%.c $(FUZZDEPS) $(wildcard *.c) \
		$(addprefix $(B)/replay/,world.o replay.o $(SHIMOBJ))
	@echo "  CC $@"
	@gcc $(UNITFLAGS) -c -o $@.o $< && $(RENAME) $@.o
	@gcc $(UNITFLAGS) -o $@ $@.o $(@D)/world.o $(@D)/replay.o $(FUZZLINK) -lprotobuf-nanopb

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
		$(addprefix $(B)/fuzz/,world.o $(SHIMOBJ))
	@echo "  CLANG $@"
	@clang $(CLANGFLAGS) -c -o $@.o $< && $(RENAME) $@.o
	@clang -fsanitize=fuzzer,address,undefined -o $@ $@.o $(@D)/world.o $(FUZZLINK) \
		-lprotobuf-nanopb

replay: $(FUZZ:%=$(B)/replay/fuzz-%)

fuzz:
	@test/deps clang libclang-rt-14-dev
	@$(MAKE) $(FUZZ:%=$(B)/fuzz/fuzz-%)
	@test/fuzz/run $(FUZZ_TIME) $(FUZZ)

# ---- unit tests for another machine: linked as the program is, run under qemu-user --------------
# Not what needs to know what the emulator has open, forks, or puts in the way of system calls.
ARCHUNIT = $(patsubst test/unit/%.c,$(B)/arch/unit-%,\
	$(filter-out test/unit/mount.c test/unit/runtime.c,$(wildcard test/unit/*.c)))
ARCHFLAGS = $(WARN) -Wno-stack-usage -O1 -fPIE -fvisibility=hidden -Itest/arch -DUNIT_TEST $(CPPFLAGS)
ARCHOBJ = $(patsubst %.c,$(B)/arch/%.o,$(filter-out shim.c,$(SRC)))

$(B)/arch/%.o: %.c $(wildcard *.h) $(K)/.done $(B)/pb/.done Makefile
	@mkdir -p $(@D)
	@$(CC) $(ARCHFLAGS) -c -o $@ $<

$(B)/arch/unit-%: test/unit/%.c $(wildcard test/unit/*.h) test/wire.h test/arch/cmocka.h shim.c $(ARCHOBJ) \
		$(PB:.c=.o)
	@echo "  CC $@"
	@$(CC) $(ARCHFLAGS) -c -o $@.o $<
	@$(LINK) $(LDFLAGS) -o $@ $(MUSL)/rcrt1.o $(MUSL)/crti.o $@.o \
		$(call linked,$(ARCHOBJ),$(B)/arch) \
		$(PB:.c=.o) $(LINKLIBS)

unit-arch: $(ARCHUNIT)

deps-cross:
	@test/deps gcc-aarch64-linux-gnu gcc-arm-linux-gnueabihf gcc-i686-linux-gnu \
		gcc-riscv64-linux-gnu qemu-user-static

test-arch: deps-cross
	@test/run arch

# ---- a release: all machines' programs, with their digests and sizes -----------------------------
RELEASE = build/release
release: deps-cross
	@rm -rf $(RELEASE)
	@mkdir -p $(RELEASE)
	@for arch in $(ARCHES); do \
		b=build/$$arch; [ $$arch != $(MACHINE) ] || b=build; \
		$(MAKE) -s ARCH=$$arch && test/arch/emulate $$arch $$b/nanoshim -v >/dev/null && \
		cp $$b/nanoshim $(RELEASE)/nanoshim-$(VERSION)-$$arch || exit; \
	done
	@cd $(RELEASE) && sha256sum nanoshim-* >SHA256SUMS && stat -c '%s %n' nanoshim-* >SIZES
	@cat $(RELEASE)/SHA256SUMS $(RELEASE)/SIZES

# ---- figures: make bench N=30 RUNTIME=runc -------------------------------------------------------
bench:
	@test/deps gnuplot-nox
	@$(MAKE) -s all
	@N=$(N) RUNTIME=$(RUNTIME) $(PYTHON) test/bench/bench.py

# Memory of containers in a virtual machine of 256 MiB; ten minutes under emulation.
density:
	@test/deps gnuplot-nox
	@$(MAKE) -s all $(B)/test/idle
	@test/density/compare $(B)/nanoshim

# The smallest process there is: linked like the program, but with nothing to relocate.
$(B)/test/idle: test/density/idle.c $(K)/.done Makefile
	@mkdir -p $(@D)
	@$(CC) $(WARN) $(CFLAGS) -fno-stack-protector -D_GNU_SOURCE -c -o $@.o $<
	@$(LINK) $(filter-out -T nanoshim.ld %pack-relative-relocs,$(LDFLAGS)) -Wl,-z,norelro -o $@ \
		$(MUSL)/rcrt1.o $(MUSL)/crti.o $@.o $(LINKLIBS)

# What is in the program: the linker's map, and the compiler's word on stack frames.
size:
	@$(MAKE) -s B=$(B)/size CFLAGS='$(CFLAGS) -fstack-usage' \
		LDFLAGS='$(filter-out -s,$(LDFLAGS)) -Wl,-Map=$(B)/size/map' >/dev/null
	@test/bench/size $(B)/size

.PHONY: deps-cross test-arch release bench density size

deps:
	@test/deps

test: deps
	$(MAKE) all unit memcheck asan fake replay
	test/run

lint: deps
	$(MAKE) all
	test/run lint

demo: deps
	$(MAKE) all
	test/demo

install: $(B)/nanoshim
	install -D -m 0755 $(B)/nanoshim $(DESTDIR)$(PREFIX)/bin/nanoshim
	install -D -m 0644 nanoshim.8 $(DESTDIR)$(PREFIX)/share/man/man8/nanoshim.8
	for n in $(NAMES); do ln -sf nanoshim $(DESTDIR)$(PREFIX)/bin/$$n; done

# ---- tests on the fake runtime ----
# make race, soak, faults: at length what make test does in short; RACE=, SOAK= and REAL= (seconds
# with each real runtime), ROUNDS= say how much; build/test/race prints the seed to repeat a run with.
.PHONY: fake race soak faults
FAKE = $(B)/test/fake-runtime $(B)/test/race $(B)/test/nanoshim-faults \
	$(B)/test/oldkernel
RACE = --containers 10000 --execs 28
SOAK = --containers 20000 --execs 50 --idle 60
REAL = 600
ROUNDS = 1000

$(B)/test/fake-runtime: test/fake/runtime.c
	@mkdir -p $(@D)
	@echo "  CC $@"
	@musl-gcc $(WARN) -Wno-stack-usage -D_GNU_SOURCE -Os -static -s -o $@ $<

$(B)/test/race: test/race/race.c test/fake/fault.h
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

$(B)/test/fault.o: test/fake/fault.c test/fake/fault.h
	@mkdir -p $(@D)
	@echo "  CC $@"
	@$(CC) $(WARN) $(CFLAGS) $(CPPFLAGS) -c -o $@ $<

$(B)/test/nanoshim-faults: $(B)/nanoshim $(B)/test/fault.o
	@echo "  LD $@"
	@$(LINK) $(filter-out %pack-relative-relocs,$(LDFLAGS)) $(WRAPS) -o $@ $(MUSL)/rcrt1.o $(MUSL)/crti.o $(OBJ) $(B)/test/fault.o \
		$(LINKLIBS)

# Only what the daemon's objects call is wrapped, not what the sanitizers do.
$(B)/asan/faulty.o: test/fake/fault.c test/fake/fault.h $(UNITOBJ) $(B)/asan/shim.o
	@gcc $(WARN) -D_GNU_SOURCE -g -O1 -c -o $(B)/asan/fault.o $<
	@gcc -r -nostdlib $(WRAPS) -o $@ $(filter %.o,$^) $(B)/asan/fault.o

$(B)/asan/nanoshim-faults: test/asan/options.c $(B)/asan/faulty.o
	@echo "  LD $@"
	@gcc $(ASANFLAGS) -o $@ $^ -lprotobuf-nanopb

fake: $(FAKE)

race: all fake
	$(B)/test/race $(RACE)

soak: all fake
	$(B)/test/race --soak $(SOAK)
	RUNTIME=runc test/fake/soak.py $(REAL)
	RUNTIME=crun test/fake/soak.py $(REAL)

faults: all fake
	$(B)/test/race --faults $(ROUNDS)
# ---- end of the tests on the fake runtime ----

clean:
	rm -rf $(B)

.PHONY: all unit memcheck asan test-asan unit-arch replay fuzz deps test lint demo install clean

.SECONDARY:
-include $(wildcard $(B)/*.d)
