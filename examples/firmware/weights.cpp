// SPDX-License-Identifier: Apache-2.0
// Links in what `rwkv export` wrote. Apart from the programs, as caches of compilers do not keep files
// that embed others.
#include <rwkv/static_blob_format.hpp>

#if __has_include("tales.hpp")
RWKV_EMBED(tales_blob, "tales.bin");
#elif __has_include("reverse.hpp")
RWKV_EMBED(reverse_blob, "reverse.bin");
RWKV_EMBED(reverse_vocabulary, "reverse.vocabulary");
#else
RWKV_EMBED(date_blob, "date.bin");
#endif
