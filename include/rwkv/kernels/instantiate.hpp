// SPDX-License-Identifier: Apache-2.0
// Compiles the kernels of RWKV_LEVEL for lanes of type RWKV_LANES: RWKV_KERNELS_OF_BLOCKS,
// RWKV_KERNELS_OF_FLOATS, RWKV_KERNELS_OF_PAIRS, RWKV_KERNELS_OF_TILES. For rwkv/compiled/.
//
// Read once per instruction set (kernels/isa_namespace.hpp) whenever this list is included.
#ifndef RWKV_AGAIN
#include <rwkv/kernels/all_kernels.hpp>
#endif

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL {

#if RWKV_KERNELS_OF_BLOCKS
template void multiply_blocks<RWKV_LANES>(const AnyMatrix& w, Range panels, const ProductInputs& x,
                                          std::size_t rows, float* y, std::size_t ldy) noexcept;
#endif
#if RWKV_KERNELS_OF_PAIRS
template void matmul_of_pairs<RWKV_LANES>(const PanelMatrix<bfloat16>& w, Range panels,
                                          const QuantisedActivations& x, std::size_t rows, float* y,
                                          std::size_t ldy) noexcept;
#endif
#if RWKV_KERNELS_OF_TILES
template bool multiply_in_tiles<RWKV_LANES, simd::AmxTiles>(const AnyMatrix& w, Range panels,
                                                            const ProductInputs& x,
                                                            std::size_t rows, float* y,
                                                            std::size_t ldy) noexcept;
#endif
#if RWKV_KERNELS_OF_FLOATS
template void multiply_floats<RWKV_LANES>(const AnyMatrix& w, Range panels, const ProductInputs& x,
                                          std::size_t rows, float* y, std::size_t ldy) noexcept;
template void quantise_row<RWKV_LANES>(ActivationFormat how, const float* x,
                                       const QuantisedActivations& to, std::size_t m) noexcept;
template void wkv<RWKV_LANES>(const WkvTokens& t, std::size_t n, float* state) noexcept;
template void head_operands<RWKV_LANES>(const HeadParameters& p, std::size_t n,
                                        const HeadRow& h) noexcept;
template void head_output<RWKV_LANES>(const HeadParameters& p, std::size_t n, const float* r,
                                      const float* k, const float* v, const float* g,
                                      float* y) noexcept;
template void normalise<RWKV_LANES>(const float* x, const float* weight, const float* bias,
                                    float epsilon, float* y, std::size_t n) noexcept;
template void activate<RWKV_LANES>(Activation f, float* y, Range range) noexcept;
template void add<RWKV_LANES>(const float* RWKV_RESTRICT x, float* RWKV_RESTRICT y,
                              std::size_t n) noexcept;
template void add_unsigned_zeros<RWKV_LANES>(const float* RWKV_RESTRICT x, float* RWKV_RESTRICT y,
                                             std::size_t n) noexcept;
template void token_shift<RWKV_LANES>(const float* x, const float* previous, const float* mu,
                                      float* RWKV_RESTRICT y, std::size_t n) noexcept;
template void row_times<RWKV_LANES>(const float* x, const float* m, float* RWKV_RESTRICT y,
                                    std::size_t n) noexcept;
template void gate<RWKV_LANES>(const float* x, const float* bias, float* RWKV_RESTRICT y,
                               std::size_t n) noexcept;
template void key_scores<RWKV_LANES>(const HeadPage<float>& page, Range entries, const float* q,
                                     float* scores) noexcept;
template void attend<RWKV_LANES>(const HeadPage<float>& page, Range entries, const float* q,
                                 RunningSoftmax& softmax) noexcept;
template void key_scores<RWKV_LANES>(const HeadPage<half>& page, Range entries, const float* q,
                                     float* scores) noexcept;
template void attend<RWKV_LANES>(const HeadPage<half>& page, Range entries, const float* q,
                                 RunningSoftmax& softmax) noexcept;
template void key_scores<RWKV_LANES>(const HeadPage<std::int8_t>& page, Range entries,
                                     const float* q, float* scores) noexcept;
template void attend<RWKV_LANES>(const HeadPage<std::int8_t>& page, Range entries, const float* q,
                                 RunningSoftmax& softmax) noexcept;
#endif

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL
