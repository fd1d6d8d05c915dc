/*
 * The few functions of glibc that the static libstdc++ and libgcc_eh of Debian's g++ call, on top of musl's own, so
 * that they can be linked into a shared library for musl. For tests only.
 */
#define _GNU_SOURCE
#include <link.h>
#include <stddef.h>
#include <sys/random.h>

/* As glibc's dlfcn.h declares it. */
struct dl_find_object {
  unsigned long long flags;
  void *map_start, *map_end;
  void *link_map;
  void *eh_frame;
  unsigned long long reserved[7];
};

struct query {
  char *pc;
  struct dl_find_object *result;
};

/* Fills the result and ends the walk if the object is the one that holds pc. */
static int look(struct dl_phdr_info *info, size_t size, void *data) {
  struct query *query = data;
  char *start = (char *)-1, *limit = 0;
  void *eh_frame = 0;
  int is_within = 0;
  (void)size;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *header = &info->dlpi_phdr[i];
    char *from = (char *)info->dlpi_addr + header->p_vaddr;
    char *to = from + header->p_memsz;
    if (header->p_type == PT_GNU_EH_FRAME) eh_frame = from;
    if (header->p_type != PT_LOAD) continue;
    if (from < start) start = from;
    if (to > limit) limit = to;
    if (query->pc >= from && query->pc < to) is_within = 1;
  }
  if (!is_within || !eh_frame) return 0;
  *query->result = (struct dl_find_object){.map_start = start, .map_end = limit, .eh_frame = eh_frame};
  return 1;
}

/* How the unwinder finds tables since glibc 2.35; 0 when found. */
int _dl_find_object(void *pc, struct dl_find_object *result) {
  struct query query = {pc, result};
  return dl_iterate_phdr(look, &query) ? 0 : -1;
}

/* "No": whoever asks takes the careful way. */
char __libc_single_threaded = 0;

unsigned arc4random(void) {
  unsigned result = 0;
  getrandom(&result, sizeof result, 0);
  return result;
}
