# SPDX-License-Identifier: Apache-2.0
#
# The program, its release and its installation. How the tests are built and run: test/rules.mk.

define HELP
make              build/nanoshim: one static-pie binary against musl
make ARCH=...     build/ARCH/nanoshim for another machine: amd64, arm64, armhf, i386 or riscv64
make install      DESTDIR= PREFIX=/usr/local
make demo         real containers under a real containerd, beside the Go shim (root)
make test         the tests: ten minutes on two cores (root)
make test-all     everything there is, for hours; GROUP="peers lint": only these groups
make release      the programs for all machines in build/release/, the same bytes wherever they are made
make size         what is in the program, and its largest stack frames
make bench        speed and memory beside the Go shim: table, CSV, plot (N=, RUNTIME=; root)
make density      how many containers fit into a small virtual machine (ten minutes)
make lint         clang-format, clang-tidy, cppcheck, scan-build, and the order of the layers
make coverage     which lines and branches the unit, client and fake tests reach
make mutants      small changes to the program that the tests must notice
make fuzz         looks for inputs that do harm: clang, FUZZ_TIME=900 seconds a target
make race         ten thousand containers that end at every moment there is
make soak         a million execs, and real ones for twenty minutes: nothing may grow
make faults       system calls that fail, round after round
make deps-X       installs the packages that target X needs (root), or says what is missing;
                  X: build demo test lint coverage fuzz arch bench all
make deps-list    which packages each of them needs
make clean        removes what was built; make distclean also what was downloaded
endef
export HELP

VERSION = 0.1.0
PREFIX ?= /usr/local
PYTHON = /usr/bin/python3

# ---- the machine it is for -----------------------------------------------------------------------
# Another one needs its cross compiler (make deps-arch) and has its musl and nanopb unpacked.
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

help:
	@echo "$$HELP"

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
		done || { echo "no <$$f>: make deps-build" >&2; exit 1; }; \
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

# ---- a release: all machines' programs, with their digests and sizes -----------------------------
RELEASE = build/release
release: deps-arch
	@rm -rf $(RELEASE)
	@mkdir -p $(RELEASE)
	@for arch in $(ARCHES); do \
		b=build/$$arch; [ $$arch != $(MACHINE) ] || b=build; \
		$(MAKE) -s ARCH=$$arch && test/arch/emulate $$arch $$b/nanoshim -v >/dev/null && \
		cp $$b/nanoshim $(RELEASE)/nanoshim-$(VERSION)-$$arch || exit; \
	done
	@cd $(RELEASE) && sha256sum nanoshim-* >SHA256SUMS && stat -c '%s %n' nanoshim-* >SIZES
	@cat $(RELEASE)/SHA256SUMS $(RELEASE)/SIZES

# What is in the program: the linker's map, and the compiler's word on stack frames.
size:
	@$(MAKE) -s B=$(B)/size CFLAGS='$(CFLAGS) -fstack-usage' \
		LDFLAGS='$(filter-out -s,$(LDFLAGS)) -Wl,-Map=$(B)/size/map' >/dev/null
	@test/bench/size $(B)/size

# ---- installation ---------------------------------------------------------------------------------

install: $(B)/nanoshim
	install -D -m 0755 $(B)/nanoshim $(DESTDIR)$(PREFIX)/bin/nanoshim
	install -D -m 0644 nanoshim.8 $(DESTDIR)$(PREFIX)/share/man/man8/nanoshim.8
	for n in $(NAMES); do ln -sf nanoshim $(DESTDIR)$(PREFIX)/bin/$$n; done

deps-list:
	@test/deps -l

deps-%:
	@test/deps $*

# What was downloaded is kept: packages of other releases, of other machines, and the guest's kernel.
DOWNLOADS = peers sysroot guest
clean:
	@mkdir -p build
	find build -mindepth 1 -maxdepth 1 $(DOWNLOADS:%=! -name %) -exec rm -rf {} +

distclean:
	rm -rf build

.PHONY: all help release size install deps-list clean distclean
.SECONDARY:

include test/rules.mk
-include $(wildcard $(B)/*.d)
