/* SPDX-License-Identifier: Apache-2.0 */
/* The shortest useful program in C: opens whatever a file or folder is, continues a text, goes back
 * to where it was, and continues otherwise.
 *
 *   hello_c MODEL [PROMPT]
 */
#include <rwkv/rwkv.h>

#include <stdio.h>
#include <string.h>

static int show(const char* text, size_t size, void* user) {
  (void)user;
  fwrite(text, 1, size, stdout);
  return fflush(stdout); /* nobody listens any more: stop */
}

static int fail(void) {
  fprintf(stderr, "error: %s\n", rwkv_last_error());
  return 1;
}

int main(int argc, char** argv) {
  const char* prompt = argc > 2 ? argv[2] : "Once upon a time";
  rwkv_model* model = NULL;
  rwkv_state* state = NULL;
  rwkv_state* fork = NULL;
  rwkv_sampler* sampler = NULL;
  rwkv_sampler_options sampling;
  rwkv_generate_options options = {0};
  int status = 0;
  if (argc < 2) {
    fprintf(stderr, "usage: hello_c MODEL [PROMPT]\n");
    return 2;
  }

  options.struct_size = sizeof options;
  options.max_tokens = 100;
  rwkv_sampler_defaults(&sampling);
  sampling.seed = 1;
  if (rwkv_open(argv[1], NULL, &model) != RWKV_OK ||
      rwkv_state_new(model, &state) != RWKV_OK ||
      rwkv_sampler_new(model, &sampling, &sampler) != RWKV_OK)
    status = fail();

  if (status == 0) {
    fputs(prompt, stdout);
    if (rwkv_generate(state, sampler, prompt, strlen(prompt), &options, show, NULL, NULL) !=
            RWKV_OK ||
        rwkv_state_copy(state, &fork) != RWKV_OK)
      status = fail();
  }
  if (status == 0) { /* two ways to go on, without a prompt */
    fputs("\n--- and then:", stdout);
    if (rwkv_generate(state, sampler, "", 0, &options, show, NULL, NULL) != RWKV_OK)
      status = fail();
  }
  if (status == 0) {
    fputs("\n--- or:", stdout);
    if (rwkv_generate(fork, sampler, "", 0, &options, show, NULL, NULL) != RWKV_OK) status = fail();
    putchar('\n');
  }
  rwkv_sampler_free(sampler);
  rwkv_state_free(fork);
  rwkv_state_free(state);
  rwkv_free(model);
  return status;
}
