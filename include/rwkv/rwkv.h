/* SPDX-License-Identifier: Apache-2.0 */
/* RWKV-7 and RWKV-X from C, and from every language that calls C. The library is built from the C++
 * one by the CMake target rwkv::c (librwkv).
 *
 *     rwkv_model* model;
 *     rwkv_state* state;
 *     if (rwkv_open("examples/models/tales", NULL, &model) != RWKV_OK) puts(rwkv_last_error());
 *     rwkv_state_new(model, &state);
 *     rwkv_generate(state, NULL, "Once upon a time", 16, NULL, show, NULL, NULL);
 *     rwkv_state_free(state);
 *     rwkv_free(model);
 *
 * Functions return RWKV_OK or why they failed; rwkv_last_error() then has a sentence for people.
 * Where one fails, what it was to change is as before, unless it says otherwise; what it was to make
 * is NULL. No function throws, exits or prints.
 *
 * A model may be used by any number of threads at once; a state and a sampler by one at a time.
 * States and samplers keep their model alive: handles may be freed in any order. Freeing NULL does
 * nothing. Texts are UTF-8 with a length, not necessarily ended by a zero; paths and names end with
 * a zero.
 *
 * Structures of options begin with their size, so that programs which were compiled with an older
 * version go on working: set struct_size = sizeof(...) and everything else to zero, which means the
 * default. NULL means all defaults. */
#ifndef RWKV_RWKV_H
#define RWKV_RWKV_H

#include <stddef.h>
#include <stdint.h>

#if defined(RWKV_C_STATIC)
#define RWKV_API
#elif defined(_WIN32)
#if defined(RWKV_C_BUILDING)
#define RWKV_API __declspec(dllexport)
#else
#define RWKV_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define RWKV_API __attribute__((visibility("default")))
#else
#define RWKV_API
#endif

#if defined(__cplusplus)
extern "C" {
#endif

/* ---- errors ---- */

typedef int rwkv_status;
enum {
  RWKV_OK = 0,
  RWKV_ERROR_IO = 1,          /* the operating system refused: no such file, disk full */
  RWKV_ERROR_FORMAT = 2,      /* a file is damaged, or is not what it claims */
  RWKV_ERROR_UNSUPPORTED = 3, /* a valid file that uses something this library does not do */
  RWKV_ERROR_SHAPE = 4,       /* sizes that do not fit together */
  RWKV_ERROR_ARGUMENT = 5,    /* a value from the caller that is out of range, or NULL */
  RWKV_ERROR_MEMORY = 6,      /* not enough */
  RWKV_ERROR_NUMERIC = 7,     /* NaN or infinity where a number was needed */
  RWKV_ERROR_CANCELLED = 8,   /* a callback said so */
  RWKV_ERROR_BUFFER = 9       /* a buffer is too small; the size it needs was stored */
};

/* What the last failed call of this thread says; "" if none has failed. Valid until the thread's
 * next call fails. */
RWKV_API const char* rwkv_last_error(void);

/* "0.8.1" */
RWKV_API const char* rwkv_version(void);

/* ---- models ---- */

typedef struct rwkv_model rwkv_model;
typedef struct rwkv_state rwkv_state;
typedef struct rwkv_sampler rwkv_sampler;

typedef struct rwkv_open_options {
  size_t struct_size;
  /* Threads for this model; 0: as many as the process may use. */
  size_t threads;
  /* "q8_0", "q4_k", ...: quantises the model as it is loaded. NULL: as it is in the file. */
  const char* matrix_type;
  /* A vocabulary file instead of the one that the model carries or that lies beside it. */
  const char* vocabulary;
  /* Not 0: quantised matrices are multiplied with inputs that are not rounded. */
  int exact_inputs;
  /* Called with the fraction done, 0 ... 1, from the calling thread; not 0 ends the loading with
   * RWKV_ERROR_CANCELLED. NULL: not called. */
  int (*progress)(double done, void* user);
  void* user;
} rwkv_open_options;

/* Opens the model in a file or folder of any kind that the library reads, RWKV-7 or RWKV-X, with
 * its vocabulary. */
RWKV_API rwkv_status rwkv_open(const char* path, const rwkv_open_options* options,
                               rwkv_model** model);
/* The same for the content of a file, which is copied. */
RWKV_API rwkv_status rwkv_open_memory(const void* data, size_t size,
                                      const rwkv_open_options* options, rwkv_model** model);
RWKV_API void rwkv_free(rwkv_model* model);

typedef struct rwkv_shape {
  size_t struct_size;
  size_t layers; /* RWKV-7 blocks */
  size_t embed;  /* channels: numbers of a hidden state */
  size_t head_size;
  size_t ffn;            /* width of the channel mix */
  size_t vocab;          /* tokens: numbers of a row of logits */
  size_t sparse_blocks;  /* of RWKV-X; 0 for RWKV-7 */
  size_t has_vocabulary; /* 0 or 1 */
  size_t weight_bytes;   /* in memory */
  size_t state_bytes;    /* of a new state */
} rwkv_shape;

/* Set struct_size before. */
RWKV_API rwkv_status rwkv_get_shape(const rwkv_model* model, rwkv_shape* shape);

/* Threads that this model uses. To be changed while nothing runs it; 0: as many as there may be. */
RWKV_API size_t rwkv_threads(const rwkv_model* model);
RWKV_API rwkv_status rwkv_set_threads(rwkv_model* model, size_t threads);

/* ---- states: all that a sequence remembers ---- */

/* Before the first token. */
RWKV_API rwkv_status rwkv_state_new(const rwkv_model* model, rwkv_state** state);
RWKV_API rwkv_status rwkv_state_copy(const rwkv_state* state, rwkv_state** copy);
/* Makes `to` what `from` is: the way back to a copy. Both must be of one model. */
RWKV_API rwkv_status rwkv_state_assign(rwkv_state* to, const rwkv_state* from);
RWKV_API void rwkv_state_free(rwkv_state* state);

/* A file appears as a whole or not at all. Files of other programs are read too. */
RWKV_API rwkv_status rwkv_state_save(const rwkv_state* state, const char* path);
RWKV_API rwkv_status rwkv_state_load(const rwkv_model* model, const char* path, rwkv_state** state);

/* The bytes of such a file. *size is set to how many they are, also if the capacity is smaller
 * (RWKV_ERROR_BUFFER); a capacity of 0 with data NULL asks for that. */
RWKV_API rwkv_status rwkv_state_to_bytes(const rwkv_state* state, void* data, size_t capacity,
                                         size_t* size);
RWKV_API rwkv_status rwkv_state_from_bytes(const rwkv_model* model, const void* data, size_t size,
                                           rwkv_state** state);

/* ---- tokens ---- */

/* *count is set to how many tokens the text has, also if the capacity is smaller
 * (RWKV_ERROR_BUFFER). */
RWKV_API rwkv_status rwkv_tokenize(const rwkv_model* model, const char* text, size_t text_size,
                                   uint32_t* tokens, size_t capacity, size_t* count);
/* The bytes of the tokens, without a zero at the end; *size as *count above. */
RWKV_API rwkv_status rwkv_detokenize(const rwkv_model* model, const uint32_t* tokens, size_t count,
                                     char* text, size_t capacity, size_t* size);

/* ---- running ---- */

/* Appends tokens (at least one) to the sequence. `logits` gets [vocab] numbers after the last one,
 * `hidden` the [embed] numbers that they are made of (the vector after the last norm, an embedding
 * of the text so far); both may be NULL. */
RWKV_API rwkv_status rwkv_eval(rwkv_state* state, const uint32_t* tokens, size_t count,
                               float* logits, float* hidden);

/* The same for `n` sequences of one model together, which is faster than one after the other and
 * gives the same bits: counts[i] tokens from tokens[i] on for states[i], all different. `logits`
 * ([n][vocab]) and `hidden` ([n][embed]) may be NULL. */
RWKV_API rwkv_status rwkv_eval_batch(rwkv_state* const* states, const uint32_t* const* tokens,
                                     const size_t* counts, size_t n, float* logits, float* hidden);

typedef struct rwkv_sampler_options {
  size_t struct_size;
  float temperature; /* 0: always the largest logit */
  float top_p;
  size_t top_k; /* 0: off */
  float min_p;
  float presence_penalty;
  float frequency_penalty;
  float penalty_decay;
  uint64_t seed;
} rwkv_sampler_options;

/* Fills in the defaults (temperature 1, ...), struct_size included: here zero is not the default. */
RWKV_API void rwkv_sampler_defaults(rwkv_sampler_options* options);
RWKV_API rwkv_status rwkv_sampler_new(const rwkv_model* model, const rwkv_sampler_options* options,
                                      rwkv_sampler** sampler);
RWKV_API void rwkv_sampler_free(rwkv_sampler* sampler);
/* Draws a token from [vocab] logits and counts it. */
RWKV_API rwkv_status rwkv_sample(rwkv_sampler* sampler, const float* logits, uint32_t* token);

/* ---- texts of a guaranteed form ---- */

typedef struct rwkv_grammar rwkv_grammar;

enum {
  RWKV_GRAMMAR_JSON_SCHEMA = 1, /* valid instances of a JSON Schema, draft 2020-12: without white
                                   space, properties in the schema's order */
  RWKV_GRAMMAR_GBNF = 2,        /* a grammar in llama.cpp's notation, from `root` on */
  RWKV_GRAMMAR_REGEX = 3,       /* a regular expression, for the text as a whole */
  RWKV_GRAMMAR_TOOLS = 4        /* a call of one of the tools in a JSON list */
};

/* Compiles a description of texts (of RWKV_GRAMMAR_... kind) for the vocabulary of a model. It is
 * made once, and may be used by any number of calls and threads at once, with this model. Mistakes
 * are RWKV_ERROR_ARGUMENT or RWKV_ERROR_FORMAT, what is not supported RWKV_ERROR_UNSUPPORTED, with
 * its place. */
RWKV_API rwkv_status rwkv_grammar_new(const rwkv_model* model, int kind, const char* text,
                                      size_t text_size, rwkv_grammar** grammar);
RWKV_API void rwkv_grammar_free(rwkv_grammar* grammar);

/* ---- generating ---- */

/* Gets a piece of text as soon as it is certain; not 0 stops. */
typedef int (*rwkv_on_text)(const char* text, size_t size, void* user);

enum {
  RWKV_STOP_MAX_TOKENS = 1,
  RWKV_STOP_TOKEN = 2,  /* the model said that it has finished */
  RWKV_STOP_STRING = 3, /* a stop string was complete */
  RWKV_STOP_CANCELLED = 4,
  RWKV_STOP_COMPLETE = 5 /* nothing can follow, by the grammar */
};

enum {
  RWKV_DRAFT_NONE = 0,
  RWKV_DRAFT_NGRAM = 1, /* what followed when the text last went like this: needs no other model */
  RWKV_DRAFT_MODEL = 2  /* what a smaller model with the same vocabulary would say */
};

typedef struct rwkv_generate_options {
  size_t struct_size;
  size_t max_tokens; /* 0: 256 */
  /* Texts that end the text; they are not shown. */
  const char* const* stop_strings;
  size_t stop_string_count;
  /* The text is one that it describes, or the beginning of one if it ends early. NULL: any text. */
  const rwkv_grammar* grammar;
  /* RWKV_DRAFT_...: guesses how the text goes on, which the model reads several at a time, and keeps
   * those that it would have said itself: the text is the same, sooner where guesses are right. They
   * know what this state has read in calls with the same three options. RWKV-7 only. */
  int draft;
  const rwkv_model* draft_model; /* of RWKV_DRAFT_MODEL, which the state keeps alive; else NULL */
  size_t draft_tokens;           /* guesses per pass; 0: as many as pay */
} rwkv_generate_options;

typedef struct rwkv_generate_result {
  size_t struct_size;
  int reason; /* RWKV_STOP_... */
  size_t prompt_tokens;
  size_t tokens;
  double prompt_seconds;
  double generate_seconds;
  int satisfied;   /* 1: the text as a whole is one of the grammar, or there was none */
  size_t guessed;  /* tokens of drafts that were read */
  size_t accepted; /* of them, those that were right */
} rwkv_generate_result;

/* Reads the prompt and goes on with sampled tokens, until something says stop. Afterwards the state
 * has read exactly the prompt and these tokens. With an empty prompt it goes on where the last call
 * of rwkv_generate or rwkv_eval with this state (not one that was loaded) ended; calls with one
 * sampler then give what one long call gives. `sampler` NULL: a new one with the defaults.
 * `result` may be NULL; set its struct_size before. If a call fails with another error than
 * RWKV_ERROR_ARGUMENT, the state may have read a part of the prompt or of the text. */
RWKV_API rwkv_status rwkv_generate(rwkv_state* state, rwkv_sampler* sampler, const char* prompt,
                                   size_t prompt_size, const rwkv_generate_options* options,
                                   rwkv_on_text on_text, void* user, rwkv_generate_result* result);

/* ---- instruction sets ---- */

/* The names of those that this library has kernels for and this processor runs, the best one last;
 * NULL behind the last. */
RWKV_API const char* rwkv_level_name(size_t index);
/* The one in use. */
RWKV_API const char* rwkv_level(void);
/* Kernels of another one from now on, in the whole program; while nothing runs. */
RWKV_API rwkv_status rwkv_use_level(const char* name);

#if defined(__cplusplus)
}
#endif

#endif
