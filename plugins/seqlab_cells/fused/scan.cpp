// One layer of a recurrent network over a batch of sequences: an RNN, an LSTM or a GRU, one or two directions, forward
// and backward.
//
// Layout
//   The rows of the batch are assigned to threads once; no thread waits for another before the end. A thread processes
//   its rows in chunks of some steps. All that a chunk needs fits the thread's cache and is finished there: the
//   projection of the inputs, the steps, the gradient of the inputs, and the chunk's share of the weights' gradients.
//   Only the outputs and what backward needs ("kept") reach memory.
//   Every product is of rows given by pointer with a packed panel of weights, in tiles that stay in registers. Steps of
//   rows, all rows of a chunk, and rows of unequal length (sorted, active ones first) need no other code.
//   A cell is its Epilogue: what happens to a tile of gates between two products. No other code depends on the cell.
//
// It is compiled on the machine where it runs, for one type of number (REAL) and one cell (EPILOGUE), without torch's
// headers, so that compilation takes a few seconds. Vectors are those of GCC and Clang, as wide as the registers.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <type_traits>
#include <vector>
#if defined(__SSE__)
#include <immintrin.h>
#endif

#ifndef REAL
#define REAL float
#endif
#ifndef EPILOGUE
#define EPILOGUE Gru
#endif

#define INLINE inline __attribute__((always_inline))
#define INLINED __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

namespace {

using std::int64_t;
using real = REAL;
using bits = std::conditional_t<sizeof(real) == 4, std::int32_t, std::int64_t>;

// ------------------------------------------------------------------------------------------------------- vectors

#if defined(__AVX512F__)
constexpr int BYTES = 64, ACCUMULATORS = 24;
#elif defined(__AVX__)
constexpr int BYTES = 32, ACCUMULATORS = 12;
#elif defined(__aarch64__)
constexpr int BYTES = 16, ACCUMULATORS = 24;
#else
constexpr int BYTES = 16, ACCUMULATORS = 12;
#endif

constexpr int VL = BYTES / sizeof(real);  // numbers in a vector
typedef real vec __attribute__((vector_size(BYTES)));
typedef bits ivec __attribute__((vector_size(BYTES)));
typedef real loose __attribute__((vector_size(BYTES), aligned(sizeof(real)), may_alias));  // anywhere in memory

INLINE vec load(const real* from) { return *reinterpret_cast<const loose*>(from); }
INLINE void store(real* to, vec value) { *reinterpret_cast<loose*>(to) = value; }
INLINE vec all(real value) { return value - vec{}; }  // not a sum: that would turn -0 into 0, and be one

#if defined(__AVX512F__)
constexpr bool NARROW = sizeof(real) == 4;
INLINE unsigned lanes(int64_t n) { return n >= VL ? (1u << VL) - 1 : (1u << n) - 1; }
#endif

// The first `n` numbers, which may be more than a vector holds; zeros behind them.
INLINE vec load(const real* from, int64_t n) {
#if defined(__AVX512F__)
  if constexpr (NARROW) return reinterpret_cast<vec>(_mm512_maskz_loadu_ps(lanes(n), from));
  return reinterpret_cast<vec>(_mm512_maskz_loadu_pd(lanes(n), from));
#endif
  if (n >= VL) return load(from);
  real some[VL] = {};
  for (int64_t i = 0; i < n; ++i) some[i] = from[i];
  return load(some);
}

INLINE void store(real* to, vec value, int64_t n) {
#if defined(__AVX512F__)
  if constexpr (NARROW) return _mm512_mask_storeu_ps(to, lanes(n), reinterpret_cast<__m512>(value));
  return _mm512_mask_storeu_pd(to, lanes(n), reinterpret_cast<__m512d>(value));
#endif
  if (n >= VL) return store(to, value);
  real some[VL];
  store(some, value);
  for (int64_t i = 0; i < n; ++i) to[i] = some[i];
}

constexpr int64_t rounded(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// Within the bound, a NaN stays one. Compilers make a comparison and a selection of what x86 has one instruction for.
INLINE vec clamped(vec x, real bound) {
#if defined(__AVX512F__)
  if constexpr (NARROW) {
    const __m512 high = _mm512_min_ps(_mm512_set1_ps(bound), reinterpret_cast<__m512>(x));
    return reinterpret_cast<vec>(_mm512_max_ps(_mm512_set1_ps(-bound), high));
  }
#elif defined(__AVX__)
  if constexpr (sizeof(real) == 4) {
    const __m256 high = _mm256_min_ps(_mm256_set1_ps(bound), reinterpret_cast<__m256>(x));
    return reinterpret_cast<vec>(_mm256_max_ps(_mm256_set1_ps(-bound), high));
  }
#endif
  x = x > bound ? all(bound) : x;  // in this order a NaN passes
  return x < -bound ? all(-bound) : x;
}

// a / b for a normal b: a division takes the time of five multiplications where vectors are wide.
INLINE vec quotient(vec a, vec b) {
#if defined(__AVX512F__)
  if constexpr (NARROW) {
    const vec inverse = reinterpret_cast<vec>(_mm512_rcp14_ps(reinterpret_cast<__m512>(b)));
    const vec first = a * inverse;  // to 2^-14, and to twice as many digits by Newton's step
    return first + inverse * (a - b * first);
  }
#endif
  return a / b;
}

// S y = n ln 2 + S r with |S r| <= ln 2 / 2: gives (e^(S r) - 1) / S and 2^n, of which e^(S y) = 2^n e^(S r) is made.
// The polynomial is that of Cephes' expf, and Taylor's in double precision. A NaN stays one; |y| must be small enough
// for 2^n.
template <int S>
INLINE vec reduced_expm1(vec y, vec& power) {
  constexpr bool wide = sizeof(real) == 8;
  // 1.5 * 2^mantissa rounds what is added; the exponent's bias is in it already.
  constexpr real magic = wide ? real(6755399441055744.0 + 1023) : real(12582912.0 + 127);
  constexpr real high = (wide ? real(6.93145751953125e-1) : real(0.693359375)) / S;
  constexpr real low = (wide ? real(1.42860682030941723212e-6) : real(-2.12194440e-4)) / S;
  const vec shifted = y * real(S * 1.44269504088896340736) + magic;
  const vec n = shifted - magic;
  power = reinterpret_cast<vec>(reinterpret_cast<ivec>(shifted) << (wide ? 52 : 23));
  const vec r = (y - n * high) - n * low;
  constexpr real narrow_terms[] = {1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3,
                                   4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1};
  constexpr real wide_terms[] = {1. / 6227020800, 1. / 479001600, 1. / 39916800, 1. / 3628800, 1. / 362880, 1. / 40320,
                                 1. / 5040,       1. / 720,       1. / 120,      1. / 24,      1. / 6,      1. / 2};
  constexpr int terms = wide ? 12 : 6;
  const real* term = wide ? wide_terms : narrow_terms;
  const auto scaled = [&](int i) INLINED {
    real factor = S;
    UNROLL for (int k = terms - 1; k > i; --k) factor *= S;
    return term[i] * factor;
  };
  vec sum = all(scaled(0));
  UNROLL for (int i = 1; i < terms; ++i) sum = sum * r + scaled(i);
  return r * r * sum + r;
}

INLINE vec sigmoid(vec x) {
  vec power;
  const vec rest = reduced_expm1<-1>(clamped(x, sizeof(real) == 8 ? 708 : 87), power);
  return quotient(all(1), (real(1) - rest) * power + real(1));
}

// E / (E + 1) with E = (e^2x - 1) / 2.
INLINE vec tanh(vec x) {
  vec power;
  const vec rest = reduced_expm1<2>(clamped(x, sizeof(real) == 8 ? 20 : 10), power);
  const vec half = rest * power + (power * real(0.5) - real(0.5));
  return quotient(half, half + real(1));
}

// ---------------------------------------------------------------------------------------------------------- cells
//
// gates      products with the input, and as many with the state
// units      vectors of units that a panel of forward weights covers, so that a tile has enough columns
// apart      the gate whose two products are not simply added, or -1
// kept       vectors that backward wants of each vector of units
// planes     gates of the backward pass; those from 0 meet W_hh, those from `input_plane` meet W_ih
// has_c      whether there is a second half of the state; its gradient is then what is carried between steps
// forward    a: the summed products, x_apart: the input's product of the gate `apart`; gives h'
// backward   d: the gradient of h'; `carry` goes from step to step: the gradient of c, or else what is to be added to
//            the next d

struct Gru {
  static constexpr int gates = 3, units = 1, apart = 2, kept = 4, planes = 4, input_plane = 1;
  static constexpr bool has_c = false, adds_carry = true;
  static constexpr int gate_of_plane[] = {2, 0, 1};  // of W_hh; the reset gate scales the gradient of the third gate

  static INLINE vec forward(const vec* a, vec x_apart, vec h, vec&, vec* keep) {
    const vec reset = sigmoid(a[0]), update = sigmoid(a[1]), candidate = tanh(x_apart + reset * a[2]);
    keep[0] = reset, keep[1] = update, keep[2] = candidate, keep[3] = a[2];
    return candidate + update * (h - candidate);
  }

  static INLINE void backward(vec d, const vec* kept, vec h_before, vec, vec, vec& carry, vec* plane) {
    const vec reset = kept[0], update = kept[1], candidate = kept[2];
    const vec into_candidate = d * (real(1) - update);
    plane[3] = into_candidate * (real(1) - candidate * candidate);
    plane[2] = into_candidate * update * (h_before - candidate);
    plane[0] = plane[3] * reset;
    plane[1] = plane[0] * kept[3] * (real(1) - reset);
    carry = d * update;
  }
};

struct Lstm {
  static constexpr int gates = 4, units = 1, apart = -1, kept = 5, planes = 4, input_plane = 0;
  static constexpr bool has_c = true, adds_carry = false;
  static constexpr int gate_of_plane[] = {0, 1, 2, 3};

  static INLINE vec forward(const vec* a, vec, vec, vec& c, vec* keep) {
    const vec in = sigmoid(a[0]), forget = sigmoid(a[1]), candidate = tanh(a[2]), out = sigmoid(a[3]);
    c = forget * c + in * candidate;
    keep[0] = in, keep[1] = forget, keep[2] = candidate, keep[3] = out, keep[4] = c;
    return out * tanh(c);
  }

  static INLINE void backward(vec d, const vec* kept, vec, vec c_before, vec, vec& carry, vec* plane) {
    const vec in = kept[0], forget = kept[1], candidate = kept[2], out = kept[3], squashed = tanh(kept[4]);
    const vec into_c = d * out * (real(1) - squashed * squashed) + carry;
    plane[0] = into_c * in * candidate * (real(1) - in);
    plane[1] = into_c * forget * c_before * (real(1) - forget);
    plane[2] = into_c * in * (real(1) - candidate * candidate);
    plane[3] = d * out * squashed * (real(1) - out);
    carry = into_c * forget;
  }
};

template <bool relu>
struct Elman {
  static constexpr int gates = 1, units = 2, apart = -1, kept = 0, planes = 1, input_plane = 0;
  static constexpr bool has_c = false, adds_carry = false;
  static constexpr int gate_of_plane[] = {0};

  static INLINE vec forward(const vec* a, vec, vec, vec&, vec*) {
    if constexpr (relu) return a[0] < real(0) ? vec{} : a[0];
    return tanh(a[0]);
  }

  static INLINE void backward(vec d, const vec*, vec, vec, vec h, vec&, vec* plane) {
    if constexpr (relu)
      plane[0] = h > real(0) ? d : vec{};
    else
      plane[0] = d * (real(1) - h * h);
  }
};

using RnnTanh = Elman<false>;
using RnnRelu = Elman<true>;

// ------------------------------------------------------------------------------------------------------- products

// Call `body(first, size)` on tiles of at most MAX of `n` things, as even as can be; `size` is known to the compiler.
template <int MAX, class Body>
INLINE void sized(int64_t n, Body body) {
  if constexpr (MAX == 1)
    body(std::integral_constant<int, 1>());
  else if (n == MAX)
    body(std::integral_constant<int, MAX>());
  else
    sized<MAX - 1>(n, body);
}

template <int MAX, class Body>
INLINE void in_tiles(int64_t n, Body body) {
  int64_t first = 0;
  for (int64_t left = (n + MAX - 1) / MAX; left; --left) {
    const int64_t size = (n - first + left - 1) / left;
    sized<MAX>(size, [&](auto fixed) INLINED { body(first, fixed); });
    first += size;
  }
}

// Rows of a tile of so many columns. More than eight gain little, and each number of rows is code of its own.
constexpr int tile_rows(int columns) { return std::min(8, ACCUMULATORS / columns); }

// sum[i] += a[i] W: rows by pointer, a panel of COLS vectors [depth][COLS]. Sums start at zero; what else is to be
// added comes after them, for many small numbers added to a large one lose their digits. A small tile has several sums
// of each kind, over every second or fourth term, or each addition would wait for the one before.
template <int ROWS, int COLS>
INLINE void multiply(const real* const* a, int64_t from, const real* panel, int64_t depth, vec (&sum)[ROWS][COLS]) {
  constexpr int TILE = ROWS * COLS, CHAINS = 4 * TILE <= ACCUMULATORS ? 4 : TILE <= 8 && 2 * TILE <= ACCUMULATORS ? 2 : 1;
  const real* row[ROWS];
  UNROLL for (int i = 0; i < ROWS; ++i) row[i] = a[i] + from;
  // What is fewer stays in registers, the other one comes from memory one at a time.
  const auto add = [&](int64_t k, vec (&to)[ROWS][COLS]) INLINED {
    if constexpr (ROWS < COLS) {
      vec x[ROWS];
      UNROLL for (int i = 0; i < ROWS; ++i) x[i] = all(row[i][k]);
      UNROLL for (int v = 0; v < COLS; ++v) {
        const vec w = load(panel + (k * COLS + v) * VL);
        UNROLL for (int i = 0; i < ROWS; ++i) to[i][v] += x[i] * w;
      }
    } else {
      vec w[COLS];
      UNROLL for (int v = 0; v < COLS; ++v) w[v] = load(panel + (k * COLS + v) * VL);
      UNROLL for (int i = 0; i < ROWS; ++i) UNROLL for (int v = 0; v < COLS; ++v) to[i][v] += row[i][k] * w[v];
    }
  };
  if constexpr (CHAINS > 1) {
    vec part[CHAINS][ROWS][COLS] = {};
    int64_t k = 0;
#pragma GCC unroll 1
    for (; k + CHAINS <= depth; k += CHAINS) UNROLL for (int c = 0; c < CHAINS; ++c) add(k + c, part[c]);
    for (; k < depth; ++k) add(k, part[0]);
    UNROLL for (int c = 0; c < CHAINS; ++c) UNROLL for (int i = 0; i < ROWS; ++i) UNROLL for (int v = 0; v < COLS; ++v)
      sum[i][v] += part[c][i][v];
  } else if constexpr (ROWS < COLS) {
#pragma GCC unroll 1
    for (int64_t k = 0; k < depth; ++k) add(k, sum);
  } else {
#pragma GCC unroll 4
    for (int64_t k = 0; k < depth; ++k) add(k, sum);
  }
}

template <int ROWS, int COLS>
INLINE void multiply(const real* const* a, const real* panel, int64_t depth, vec (&sum)[ROWS][COLS]) {
  multiply(a, 0, panel, depth, sum);
}

// What is to be fetched while something else is computed: a part of the next panel, where all of them do not fit the
// second cache.
struct Ahead {
  const char* begin;
  int64_t lines;

  Ahead(const real* panel, int64_t numbers, int64_t part, int64_t parts) {
    const int64_t all = panel ? numbers * sizeof(real) / 64 : 0, first = all * part / parts;
    begin = reinterpret_cast<const char*>(panel) + first * 64, lines = all * (part + 1) / parts - first;
  }
  void fetch(int64_t from, int64_t until) const {
    for (int64_t line = from; line < until; ++line) __builtin_prefetch(begin + line * 64, 0, 2);
  }
};

template <int ROWS, int COLS>
INLINE void multiply(const real* const* a, const real* panel, int64_t depth, vec (&sum)[ROWS][COLS], Ahead ahead) {
  const int64_t block = ahead.lines ? 32 : depth;
  for (int64_t k = 0; k < depth; k += block) {
    const int64_t until = std::min(depth, k + block);
    ahead.fetch(ahead.lines * k / depth, ahead.lines * until / depth);
    multiply(a, k, panel + k * COLS * VL, until - k, sum);
  }
}

// to += A^T B over `depth` rows, summed before it is added: A with so much from row to row and from SLAB columns to the
// next, B in packed panels.
constexpr int SLAB = ACCUMULATORS == 24 && VL >= 8 ? 8 : std::min(VL, 4), SLAB_COLS = 3;  // SLAB divides VL

struct Columns {
  const real* begin;
  int64_t row, slab;
};

INLINE void add_transposed(Columns a, int64_t columns, const real* b, int64_t depth, int64_t vectors, real* to) {
  in_tiles<SLAB_COLS>(vectors, [&](int64_t first, auto cols) INLINED {
    constexpr int COLS = decltype(cols)::value;
    const real* panel = b + first * VL * depth;
    for (int64_t m = 0; m < columns; m += SLAB) {
      vec sum[SLAB][COLS] = {};
      const real *left = a.begin + m / SLAB * a.slab, *right = panel;
#pragma GCC unroll 4
      for (int64_t k = 0; k < depth; ++k, left += a.row, right += COLS * VL) {
        vec w[COLS];
        UNROLL for (int v = 0; v < COLS; ++v) w[v] = load(right + v * VL);
        UNROLL for (int i = 0; i < SLAB; ++i) UNROLL for (int v = 0; v < COLS; ++v) sum[i][v] += left[i] * w[v];
      }
      real* out = to + (m * vectors + first) * VL;
      UNROLL for (int i = 0; i < SLAB; ++i) UNROLL for (int v = 0; v < COLS; ++v) {
        real* at = out + (i * vectors + v) * VL;
        store(at, load(at) + sum[i][v]);
      }
    }
  });
}

// A [depth][lead] -> [columns / SLAB][depth][SLAB]: read down its columns, each row would be on another page.
inline void pack_columns(const real* from, int64_t lead, int64_t columns, int64_t depth, real* to) {
  for (int64_t m = 0; m < columns; m += VL, to += depth * VL)
    for (int64_t k = 0; k < depth; ++k)
      for (int i = 0; i < VL; i += SLAB)
        std::memcpy(to + i * depth + k * SLAB, from + k * lead + m + i, SLAB * sizeof(real));
}

// Rows of `width` numbers -> the panels that `add_transposed` reads.
inline void pack_rows(const real* const* rows, int64_t depth, int64_t width, int64_t vectors, real* to) {
  in_tiles<SLAB_COLS>(vectors, [&](int64_t first, auto cols) INLINED {
    constexpr int COLS = decltype(cols)::value;
    real* panel = to + first * VL * depth;
    for (int64_t k = 0; k < depth; ++k)
      for (int v = 0; v < COLS; ++v)
        store(panel + (k * COLS + v) * VL, load(rows[k] + (first + v) * VL, width - (first + v) * VL));
  });
}

// -------------------------------------------------------------------------------------------------------- problem

}  // namespace

// Filled in by Python (`native.py` mirrors it). Sizes are in numbers; all is contiguous unless a stride is given.
struct Problem {
  int64_t time, batch, input, hidden, directions, threads;
  int64_t rebuild;            // keep only c, and recompute the gates in backward
  int64_t x_time, x_batch;    // strides of x
  const real* x;              // [time, batch, input]
  const int64_t* lengths;     // [batch], or null
  const real* h0[2];          // [batch, hidden]; by direction
  const real* c0[2];
  const real* w_ih[2];        // [gates * hidden, input]
  const real* w_hh[2];        // [gates * hidden, hidden]
  const real* b_ih[2];
  const real* b_hh[2];
  real* y;                    // [time, batch, directions * hidden]
  real* h_end;                // [directions, batch, hidden]
  real* c_end;
  real* kept;                 // [directions, time, batch, record]; null where no gradient is wanted
  char* workspace;            // see `workspace_size`
  const real* dy;             // as y; this and the next two may be null
  const real* dh_end;
  const real* dc_end;
  real* dx;                   // [directions, time, batch, input], to be summed; null where it is not wanted
  real* dh0;                  // [directions, batch, hidden]
  real* dc0;
  real* dw;                   // [directions, W_ih + W_hh + b_ih + b_hh]; null where it is not wanted
};

// Bytes from an array of one replica to that of the next; 0 where replicas share it. `native.py` mirrors it.
struct Distances {
  int64_t count, workspace;  // replicas, and the workspace of each thread that runs some of them
  int64_t x, lengths, h0[2], c0[2], w_ih[2], w_hh[2], b_ih[2], b_hh[2];
  int64_t y, h_end, c_end, kept, dy, dh_end, dc_end, dx, dh0, dc0, dw;
};

namespace {

// Parts of one piece of memory, each at the start of a cache line.
struct Arena {
  char* begin;
  int64_t used = 0;

  template <class T>
  T* take(int64_t n) {
    T* part = begin ? reinterpret_cast<T*>(begin + used) : nullptr;
    used += rounded(n * sizeof(T), 64) + 64;  // and one apart, so that rows of two parts do not share a cache set
    return part;
  }
};

// Denormal numbers are slow, and vanished gradients are full of them: they are flushed to zero here.
class FlushDenormals {
#if defined(__SSE__)
  unsigned before = _mm_getcsr();

 public:
  FlushDenormals() { _mm_setcsr(before | 0x8040); }
  ~FlushDenormals() { _mm_setcsr(before); }
#elif defined(__aarch64__)
  std::uint64_t before;

 public:
  FlushDenormals() {
    asm volatile("mrs %0, fpcr" : "=r"(before));
    asm volatile("msr fpcr, %0" : : "r"(before | (1ull << 24)));
  }
  ~FlushDenormals() { asm volatile("msr fpcr, %0" : : "r"(before)); }
#else
 public:
  FlushDenormals() {}
#endif
};

// The rows that one thread processes in one direction, the longest first.
struct Share {
  int direction;
  std::vector<int64_t> rows;    // batch indices
  std::vector<int64_t> length;  // of each
  std::vector<int64_t> active;  // rows with a valid step at each step, and 0 behind the last
  int64_t steps() const { return static_cast<int64_t>(active.size()) - 1; }
};

// The steps [begin, end) of a share, and where each step's rows stand among the chunk's.
struct Chunk {
  int64_t begin, end;
  std::vector<int64_t> offset;
  int64_t rows() const { return offset.back(); }
};

std::vector<Share> shares(const Problem& p) {
  const int64_t groups = std::min(p.batch, p.threads % p.directions ? p.threads : p.threads / p.directions);
  std::vector<int64_t> order(p.batch), load(groups, 0);
  std::iota(order.begin(), order.end(), 0);
  const auto length = [&](int64_t row) { return p.lengths ? p.lengths[row] : p.time; };
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return length(a) > length(b); });
  std::vector<Share> result;
  for (int64_t group = 0; group < groups; ++group) result.push_back({0, {}, {}, {}});
  for (int64_t i = 0; i < p.batch; ++i) {
    // Equal rows stay in blocks; unequal ones go, the longest first, to the thread with the least work.
    const int64_t group = p.lengths ? std::min_element(load.begin(), load.end()) - load.begin() : i * groups / p.batch;
    result[group].rows.push_back(order[i]);
    result[group].length.push_back(length(order[i]));
    load[group] += length(order[i]) + 1;
  }
  for (Share& share : result) {
    int64_t active = share.rows.size();
    for (int64_t s = 0; active; ++s) {
      while (active && share.length[active - 1] <= s) --active;
      share.active.push_back(active);
    }
  }
  for (int64_t group = 0; p.directions == 2 && group < groups; ++group) {
    result.push_back(result[group]);
    result.back().direction = 1;
  }
  return result;
}

std::vector<Chunk> chunks(const Share& share, int64_t target) {
  std::vector<Chunk> result;
  for (int64_t s = 0; s < share.steps();) {
    Chunk chunk{s, s, {0}};
    do {
      chunk.offset.push_back(chunk.rows() + share.active[chunk.end++]);
    } while (chunk.end < share.steps() && chunk.rows() + share.active[chunk.end] <= target);
    s = chunk.end;
    result.push_back(std::move(chunk));
  }
  return result;
}

template <class Body>
void in_parallel(int64_t n, int64_t threads, Body body) {
#pragma omp parallel for schedule(static, 1) num_threads(static_cast<int>(std::max<int64_t>(1, std::min(n, threads))))
  for (int64_t i = 0; i < n; ++i) {
    FlushDenormals flush;
    body(i);
  }
}

// ---------------------------------------------------------------------------------------------------------- layer

template <class Epilogue>
struct Layer {
  static constexpr int G = Epilogue::gates, COLS = G * Epilogue::units;
  // Columns of a panel that are summed at once: half of them where registers for all would leave too few rows to a
  // tile, and the panel be read too often.
  static constexpr int PASS = tile_rows(COLS) < COLS ? COLS / 2 : COLS, TILE = tile_rows(PASS);
  static constexpr int KEPT = Epilogue::kept, PLANES = Epilogue::planes;

  const Problem& p;
  const int64_t T = p.time, B = p.batch, I = p.input, H = p.hidden, D = p.directions;
  const int64_t Hv = rounded(H, VL);                    // units in whole vectors
  const int64_t Hp = rounded(H, VL * Epilogue::units);  // and in whole panels
  const int64_t panels = Hp / (VL * Epilogue::units), ldx = G * Hp, ldg = PLANES * Hv + 16;
  const int64_t record = p.rebuild ? (Epilogue::has_c ? Hv : 0) : KEPT * Hv;  // kept numbers of a row's step
  std::vector<Share> share = shares(p);
  int64_t most_rows = 0;
  real *forward_hh[2], *forward_ih[2], *bias[2], *bias_apart[2], *backward_hh[2], *backward_ih[2];

  explicit Layer(const Problem& problem) : p(problem) {
    for (const Share& s : share) most_rows = std::max<int64_t>(most_rows, s.rows.size());
  }

  int64_t time_of(const Share& s, int64_t m, int64_t step) const {
    return s.direction ? s.length[m] - 1 - step : step;
  }
  real* y_of(const Share& s, int64_t m, int64_t step) const {
    return p.y + ((time_of(s, m, step) * B + s.rows[m]) * D + s.direction) * H;
  }
  const real* h_before(const Share& s, int64_t m, int64_t step) const {
    return step ? y_of(s, m, step - 1) : p.h0[s.direction] + s.rows[m] * H;
  }
  const real* x_of(const Share& s, int64_t m, int64_t step) const {
    return p.x + time_of(s, m, step) * p.x_time + s.rows[m] * p.x_batch;
  }
  real* kept_of(const Share& s, int64_t m, int64_t step) const {
    return p.kept + ((s.direction * T + step) * B + s.rows[m]) * record;
  }
  // From what a step of a row has in y or x to what its next one has.
  int64_t onwards(const Share& s, int64_t stride) const { return s.direction ? -stride : stride; }

  // Weights [gates * H, depth] -> panels [COLS / PASS][depth][PASS], one unit or gate a vector.
  void pack_forward(const real* w, int64_t depth, int64_t panel, real* to) const {
    to += panel * depth * COLS * VL;
    for (int v = 0; v < COLS; ++v)
      for (int lane = 0; lane < VL; ++lane) {
        const int64_t unit = (panel * Epilogue::units + v / G) * VL + lane;
        const real* from = w + ((v % G) * H + unit) * depth;
        real* at = to + (v / PASS * depth * PASS + v % PASS) * VL + lane;
        for (int64_t k = 0; k < depth; ++k) at[k * PASS * VL] = unit < H ? from[k] : 0;
      }
  }

  // Weights [gates * H, width] -> panels [planes * Hv][NB] for products from the right.
  template <int NB>
  void pack_backward(const real* w, int64_t width, bool hidden, int64_t panel, real* to) const {
    to += panel * G * Hv * NB * VL;
    for (int plane = 0; plane < G; ++plane) {
      const int gate = hidden ? Epilogue::gate_of_plane[plane] : plane;
      for (int64_t j = 0; j < Hv; ++j, to += NB * VL)
        for (int v = 0; v < NB; ++v) {
          const int64_t column = (panel * NB + v) * VL;
          const bool inside = j < H && column < width;
          store(to + v * VL, inside ? load(w + (gate * H + j) * width + column, width - column) : vec{});
        }
    }
  }

  void pack_for_forward(Arena& arena) {
    for (int d = 0; d < D; ++d) {
      forward_hh[d] = arena.take<real>(panels * H * COLS * VL);
      forward_ih[d] = arena.take<real>(panels * I * COLS * VL);
      bias[d] = arena.take<real>(ldx);
      bias_apart[d] = arena.take<real>(ldx);
    }
    if (!arena.begin) return;
    in_parallel(D * panels, p.threads, [&](int64_t i) {
      const int64_t d = i / panels, panel = i % panels;
      pack_forward(p.w_hh[d], H, panel, forward_hh[d]);
      pack_forward(p.w_ih[d], I, panel, forward_ih[d]);
      for (int v = 0; v < COLS; ++v)
        for (int lane = 0; lane < VL; ++lane) {
          const int64_t unit = (panel * Epilogue::units + v / G) * VL + lane, at = (panel * COLS + v) * VL + lane;
          const int64_t from = (v % G) * H + unit;
          const bool apart = v % G == Epilogue::apart;
          bias[d][at] = unit < H ? p.b_ih[d][from] + (apart ? 0 : p.b_hh[d][from]) : 0;
          bias_apart[d][at] = unit < H && apart ? p.b_hh[d][from] : 0;
        }
    });
  }

  template <int ROWS, class... Fetched>
  static INLINE void multiply_panel(const real* const* a, const real* panel, int64_t depth, vec (&sum)[ROWS][COLS],
                                    Fetched... ahead) {
    if constexpr (PASS == COLS) return multiply(a, panel, depth, sum, ahead...);
    for (int from = 0; from < COLS; from += PASS, panel += depth * PASS * VL) {
      vec part[ROWS][PASS] = {};
      multiply(a, panel, depth, part);
      UNROLL for (int i = 0; i < ROWS; ++i) UNROLL for (int v = 0; v < PASS; ++v) sum[i][from + v] = part[i][v];
    }
  }

  // to[r] = W_ih x[r] + b
  void project(int d, const real* const* x, int64_t rows, real* to) const {
    for (int64_t panel = 0; panel < panels; ++panel)
      in_tiles<TILE>(rows, [&](int64_t first, auto size) INLINED {
        constexpr int ROWS = decltype(size)::value;
        vec sum[ROWS][COLS] = {};
        multiply_panel(x + first, forward_ih[d] + panel * I * COLS * VL, I, sum);
        for (int i = 0; i < ROWS; ++i) UNROLL for (int v = 0; v < COLS; ++v) {
          const int64_t at = (panel * COLS + v) * VL;
          store(to + (first + i) * ldx + at, sum[i][v] + load(bias[d] + at));
        }
      });
  }

  // The steps of `rows` rows, each from its own state before. Where backward recomputes the gates, no output is
  // written, and c is read only.
  struct Step {
    const real* projected;       // [rows][ldx]
    const real* const* h;        // states before
    real* const* y;              // outputs, or null
    real* const* c;              // [Hv] each, in place unless y is null
    real* const* kept;           // records of KEPT vectors, or null
    real* const* kept_c;         // c alone, or null
  };

  // Where rows are few, the products of several panels come first, and then all that follows from them: epilogues are
  // long chains of instructions that wait for one another, which overlap where many are in a row.
  void advance(int d, const Step& step, int64_t rows) const {
    constexpr int64_t CHAINS = 8;
    alignas(64) real sums[std::max<int64_t>(TILE, CHAINS) * COLS * VL];
    const int64_t together = std::max<int64_t>(1, CHAINS / rows);
    for (int64_t panel = 0; panel < panels; panel += together) {
      const int64_t until = std::min(panels, panel + together);
      const int64_t tiles = (rows + TILE - 1) / TILE, size = H * COLS * VL;
      const real* next = far(panels * size) && until < panels ? forward_hh[d] + until * size : nullptr;
      int64_t first = 0;
      for (int64_t left = tiles; left; --left) {
        const int64_t n = (rows - first + left - 1) / left;
        const Ahead ahead(next, size, tiles - left, tiles);
        for (int64_t q = panel; q < until; ++q)
          products(d, q, step.h + first, n, ahead, sums + (q - panel) * n * COLS * VL);
        for (int64_t q = panel; q < until; ++q)
          for (int64_t r = 0; r < n; ++r) finish(d, step, first + r, q, sums + ((q - panel) * n + r) * COLS * VL);
        first += n;
      }
    }
  }

  // Whether so many numbers are more than the second cache keeps from step to step.
  static bool far(int64_t numbers) { return numbers * sizeof(real) > (1 << 20); }

  INLINE void products(int d, int64_t panel, const real* const* h, int64_t rows, Ahead ahead, real* to) const {
    sized<TILE>(rows, [&](auto fixed) INLINED {
      constexpr int ROWS = decltype(fixed)::value;
      vec sum[ROWS][COLS] = {};
      multiply_panel(h, forward_hh[d] + panel * H * COLS * VL, H, sum, ahead);
      UNROLL for (int i = 0; i < ROWS; ++i) UNROLL for (int v = 0; v < COLS; ++v)
        store(to + (i * COLS + v) * VL, sum[i][v]);
    });
  }

  INLINE void finish(int d, const Step& step, int64_t r, int64_t panel, const real* sums) const {
    constexpr int own = std::max(0, Epilogue::apart);
    UNROLL for (int u = 0; u < Epilogue::units; ++u) {
      const int64_t unit = (panel * Epilogue::units + u) * VL, at = (panel * COLS + u * G) * VL;
      if (unit >= H) return;
      const real* x = step.projected + r * ldx + at;
      vec a[G], keep[KEPT + 1], c{};
      UNROLL for (int g = 0; g < G; ++g)
        a[g] = load(sums + (u * G + g) * VL) + load(g == Epilogue::apart ? bias_apart[d] + at + g * VL : x + g * VL);
      const vec apart = Epilogue::apart < 0 ? vec{} : load(x + own * VL);
      if constexpr (Epilogue::has_c) c = load(step.c[r] + unit);
      const vec h = Epilogue::forward(a, apart, load(step.h[r] + unit, H - unit), c, keep);
      real* const kept = step.kept ? step.kept[r] + unit * KEPT : nullptr;
      if (kept) UNROLL for (int k = 0; k < KEPT; ++k) store(kept + k * VL, keep[k]);
      if (!step.y) continue;
      store(step.y[r] + unit, h, H - unit);
      if constexpr (Epilogue::has_c) {
        store(step.c[r] + unit, c);
        if (step.kept_c) store(step.kept_c[r] + unit, c);
      }
    }
  }

  // ------------------------------------------------------------------------------------------------------ forward

  int64_t forward_target() const { return std::max<int64_t>(128, most_rows); }

  struct ForwardSpace {
    real *projected, *c;
    const real **x, **h;
    real **y, **c_row, **kept;
  };

  ForwardSpace forward_space(Arena& arena) const {
    const int64_t rows = forward_target();
    ForwardSpace s;
    s.projected = arena.take<real>(rows * ldx);
    s.c = arena.take<real>(Epilogue::has_c ? most_rows * Hv : 0);
    s.x = arena.take<const real*>(rows);
    s.h = arena.take<const real*>(rows);
    s.y = arena.take<real*>(rows);
    s.c_row = arena.take<real*>(rows);
    s.kept = arena.take<real*>(rows);
    return s;
  }

  int64_t forward(char* workspace) {
    Arena arena{workspace};
    pack_for_forward(arena);
    std::vector<ForwardSpace> space;
    for (size_t i = 0; i < share.size(); ++i) space.push_back(forward_space(arena));
    if (workspace) in_parallel(share.size(), p.threads, [&](int64_t i) { forward_share(share[i], space[i]); });
    return arena.used;
  }

  void forward_share(const Share& s, const ForwardSpace& space) const {
    const int64_t M = s.rows.size();
    for (int64_t m = 0; Epilogue::has_c && m < M; ++m)
      for (int64_t j = 0; j < Hv; j += VL)
        store(space.c + m * Hv + j, load(p.c0[s.direction] + s.rows[m] * H + j, H - j));
    const bool keeps = p.kept && record;
    for (int64_t m = 0; m < M; ++m) {
      space.c_row[m] = space.c + m * Hv;
      space.h[m] = h_before(s, m, 0);
      space.y[m] = y_of(s, m, 0);
      space.kept[m] = keeps ? kept_of(s, m, 0) : nullptr;
    }
    for (const Chunk& chunk : chunks(s, forward_target())) {
      for (int64_t step = chunk.begin; step < chunk.end; ++step)
        for (int64_t m = 0; m < s.active[step]; ++m) space.x[chunk.offset[step - chunk.begin] + m] = x_of(s, m, step);
      project(s.direction, space.x, chunk.rows(), space.projected);
      for (int64_t step = chunk.begin; step < chunk.end; ++step) forward_step(s, chunk, step, space);
    }
    for (int64_t m = 0; m < M; ++m) forward_end(s, m, space.c + m * Hv);
  }

  void forward_step(const Share& s, const Chunk& chunk, int64_t step, const ForwardSpace& space) const {
    const int64_t rows = s.active[step], stride = onwards(s, B * D * H);
    const bool keeps = p.kept && record;
    real* const* kept = space.kept;
    advance(s.direction,
            {space.projected + chunk.offset[step - chunk.begin] * ldx, space.h, space.y, space.c_row,
             keeps && !p.rebuild ? kept : nullptr, keeps && p.rebuild ? kept : nullptr},
            rows);
    for (int64_t m = 0; m < rows; ++m) {
      space.h[m] = space.y[m];
      space.y[m] += stride;
      if (keeps) space.kept[m] += B * record;
    }
  }

  // The state after a row's last step, and zeros on its padding.
  void forward_end(const Share& s, int64_t m, const real* c) const {
    const int64_t length = s.length[m], row = s.direction * B + s.rows[m];
    std::memcpy(p.h_end + row * H, h_before(s, m, length), H * sizeof(real));
    if (Epilogue::has_c) std::memcpy(p.c_end + row * H, c, H * sizeof(real));
    for (int64_t t = length; t < T; ++t)
      std::memset(p.y + ((t * B + s.rows[m]) * D + s.direction) * H, 0, H * sizeof(real));
  }

  // ----------------------------------------------------------------------------------------------------- backward

  int64_t backward_target() const { return std::max<int64_t>(H >= 256 ? 512 : 128, most_rows); }
  // Few rows need wide tiles, to have enough sums in flight; many need narrow ones, which read the weights less often.
  bool wide() const { return most_rows <= ACCUMULATORS / 4; }
  int64_t input_vectors() const { return (I + VL - 1) / VL; }
  // Whether the gates of consecutive steps of a chunk are too many pages to be read column by column.
  bool far_apart() const { return ldg * sizeof(real) > 2048; }

  struct BackwardSpace {
    real *gates, *carry, *packed, *columns, *sums, *projected, *kept, *c0;
    const real **x, **h, **y, **next;
    real **kept_row, **c_row, **dx;
  };

  int64_t sums_size() const { return G * Hv * (rounded(I, VL) + Hv) + PLANES * Hv; }

  BackwardSpace backward_space(Arena& arena) const {
    const int64_t rows = backward_target();
    BackwardSpace s;
    s.gates = arena.take<real>((rows + most_rows) * ldg);
    s.carry = arena.take<real>(most_rows * Hv);
    s.packed = arena.take<real>(rows * std::max(rounded(I, VL), Hv));
    s.columns = arena.take<real>(p.dw ? rows * PLANES * Hv : 0);
    s.sums = arena.take<real>(sums_size());
    s.projected = arena.take<real>(p.rebuild && KEPT ? rows * ldx : 0);
    s.kept = arena.take<real>(p.rebuild && KEPT ? rows * KEPT * Hv : 0);
    s.c0 = arena.take<real>(Epilogue::has_c ? most_rows * Hv : 0);
    s.x = arena.take<const real*>(rows);
    s.h = arena.take<const real*>(rows);
    s.y = arena.take<const real*>(rows);
    s.next = arena.take<const real*>(most_rows);
    s.kept_row = arena.take<real*>(rows);
    s.c_row = arena.take<real*>(rows);
    s.dx = arena.take<real*>(rows);
    return s;
  }

  int64_t backward(char* workspace) {
    Arena arena{workspace};
    if (p.rebuild && KEPT) pack_for_forward(arena);
    pack_for_backward(arena);
    std::vector<BackwardSpace> space;
    for (size_t i = 0; i < share.size(); ++i) space.push_back(backward_space(arena));
    if (!workspace) return arena.used;
    in_parallel(share.size(), p.threads, [&](int64_t i) {
      if (wide())
        backward_share<4>(share[i], space[i]);
      else
        backward_share<2>(share[i], space[i]);
    });
    in_parallel(p.dw ? D * G * H : 0, p.threads, [&](int64_t i) { reduce(i / (G * H), i % (G * H), space); });
    return arena.used;
  }

  void pack_for_backward(Arena& arena) {
    const int NB = wide() ? 4 : 2, NX = input_vectors() == 1 ? 1 : 2;
    const int64_t over_h = rounded(H, NB * VL) / (NB * VL), over_x = rounded(I, NX * VL) / (NX * VL);
    for (int d = 0; d < D; ++d) {
      backward_hh[d] = arena.take<real>(over_h * NB * VL * G * Hv);
      backward_ih[d] = arena.take<real>(over_x * NX * VL * G * Hv);
    }
    if (!arena.begin) return;
    in_parallel(D * over_h, p.threads, [&](int64_t i) {
      const int64_t d = i / over_h, panel = i % over_h;
      wide() ? pack_backward<4>(p.w_hh[d], H, true, panel, backward_hh[d])
             : pack_backward<2>(p.w_hh[d], H, true, panel, backward_hh[d]);
    });
    in_parallel(p.dx ? D * over_x : 0, p.threads, [&](int64_t i) {
      const int64_t d = i / over_x, panel = i % over_x;
      NX == 1 ? pack_backward<1>(p.w_ih[d], I, false, panel, backward_ih[d])
              : pack_backward<2>(p.w_ih[d], I, false, panel, backward_ih[d]);
    });
  }

  template <int NB>
  void backward_share(const Share& s, const BackwardSpace& space) const {
    const int64_t M = s.rows.size();
    std::fill(space.sums, space.sums + sums_size(), real(0));
    for (int64_t m = 0; m < M; ++m)
      for (int64_t j = 0; j < Hv; j += VL) {
        const int64_t at = (s.direction * B + s.rows[m]) * H + j;
        store(space.carry + m * Hv + j, Epilogue::has_c && p.dc_end ? load(p.dc_end + at, H - j) : vec{});
        if (Epilogue::has_c) store(space.c0 + m * Hv + j, load(p.c0[s.direction] + s.rows[m] * H + j, H - j));
      }
    const std::vector<Chunk> all_chunks = chunks(s, backward_target());
    for (size_t i = all_chunks.size(); i-- > 0;) backward_chunk<NB>(s, all_chunks[i], space);
    // The step before the first one is the initial state.
    backward_step<NB>(s, nullptr, -1, space);
    for (int64_t m = 0; p.dx && m < M; ++m)
      for (int64_t t = s.length[m]; t < T; ++t)
        std::memset(p.dx + ((s.direction * T + t) * B + s.rows[m]) * I, 0, I * sizeof(real));
  }

  template <int NB>
  void backward_chunk(const Share& s, const Chunk& chunk, const BackwardSpace& space) const {
    const int64_t rows = chunk.rows();
    // The gates of the step behind this chunk, which was the first of the chunk before, go behind it.
    const int64_t behind = s.active[chunk.end];
    if (behind) std::memmove(space.gates + rows * ldg, space.gates, behind * ldg * sizeof(real));
    for (int64_t m = 0; m < s.active[chunk.begin]; ++m) point(s, m, chunk, space);
    if (p.rebuild && KEPT) {
      project(s.direction, space.x, rows, space.projected);
      advance(s.direction, {space.projected, space.h, nullptr, space.c_row, space.kept_row, nullptr}, rows);
    }
    for (int64_t step = chunk.end; step-- > chunk.begin;) backward_step<NB>(s, &chunk, step, space);
    if (p.dw) weight_sums(space, rows);
    if (p.dx && input_vectors() == 1) input_gradient<1>(s.direction, space, rows);
    if (p.dx && input_vectors() > 1) input_gradient<2>(s.direction, space, rows);
  }

  // Where the steps of row `m` in a chunk find what they need.
  void point(const Share& s, int64_t m, const Chunk& chunk, const BackwardSpace& space) const {
    const int64_t first = chunk.begin, over_x = onwards(s, p.x_time), over_y = onwards(s, B * D * H);
    const real *x = x_of(s, m, first), *h = h_before(s, m, first);
    real *y = y_of(s, m, first), *kept = kept_of(s, m, first), *c = first ? kept - B * record : space.c0 + m * Hv;
    real* dx = p.dx ? p.dx + ((s.direction * T + time_of(s, m, first)) * B + s.rows[m]) * I : nullptr;
    for (int64_t step = first; step < chunk.end && m < s.active[step]; ++step) {
      const int64_t r = chunk.offset[step - first] + m;
      space.x[r] = x, space.h[r] = h, space.y[r] = y;
      x += over_x, h = y, y += over_y;
      if (p.dx) space.dx[r] = dx, dx += onwards(s, B * I);
      if constexpr (KEPT > 0) space.kept_row[r] = p.rebuild ? space.kept + r * KEPT * Hv : kept;
      if constexpr (Epilogue::has_c) space.c_row[r] = c;  // the last vector of five, or the only one
      c = kept, kept += B * record;
    }
  }

  INLINE vec c_before(const BackwardSpace& space, int64_t r, int64_t step, int64_t unit) const {
    if constexpr (!Epilogue::has_c) return vec{};
    if (p.rebuild || step == 0) return load(space.c_row[r] + unit);
    return load(space.c_row[r] + unit * KEPT + (KEPT - 1) * VL);
  }

  // One step: the gradient of each row's h', from the gates of the step behind it, and of the gates. With step -1, of
  // the initial state.
  template <int NB>
  void backward_step(const Share& s, const Chunk* chunk, int64_t step, const BackwardSpace& space) const {
    constexpr int TILE_ROWS = tile_rows(NB);
    const bool start = step < 0;
    const int64_t here = start ? 0 : chunk->offset[step - chunk->begin];
    const int64_t there = start ? 0 : chunk->offset[step - chunk->begin + 1];
    const int64_t active = start ? s.rows.size() : s.active[step], going_on = s.steps() ? s.active[step + 1] : 0;
    for (int64_t m = 0; m < going_on; ++m) space.next[m] = space.gates + (there + m) * ldg;
    const int64_t size = G * Hv * NB * VL, over = rounded(H, NB * VL) / (NB * VL);
    for (int64_t panel = 0; panel < over; ++panel) {
      const real* w = backward_hh[s.direction] + panel * size;
      const real* next = far(over * size) && panel + 1 < over ? w + size : nullptr;
      // Those that go on, then those whose last step this is.
      for (const bool last : {false, true}) {
        const int64_t from = last ? going_on : 0, count = last ? active - going_on : going_on;
        in_tiles<TILE_ROWS>(count, [&](int64_t first, auto size) INLINED {
          constexpr int ROWS = decltype(size)::value;
          vec sum[ROWS][NB] = {};
          if (!last) multiply(space.next + first, w, G * Hv, sum, Ahead(next, size * ROWS, first / ROWS, count));
          for (int i = 0; i < ROWS; ++i) UNROLL for (int v = 0; v < NB; ++v) {
            const int64_t unit = (panel * NB + v) * VL, m = from + first + i;
            if (unit >= H) continue;
            const vec d = sum[i][v] + arriving(s, m, here + m, unit, start, last, space);
            leave(s, m, step, here + m, unit, d, space);
          }
        });
      }
    }
  }

  // The gradient of h' that does not come through the gates of the next step.
  INLINE vec arriving(const Share& s, int64_t m, int64_t r, int64_t unit, bool start, bool last,
                      const BackwardSpace& space) const {
    vec d{};
    if (!start && p.dy) d = load(p.dy + (space.y[r] - p.y) + unit, H - unit);
    if (last && p.dh_end) d += load(p.dh_end + (s.direction * B + s.rows[m]) * H + unit, H - unit);
    if constexpr (Epilogue::adds_carry) d += load(space.carry + m * Hv + unit);
    return d;
  }

  INLINE void leave(const Share& s, int64_t m, int64_t step, int64_t r, int64_t unit, vec d,
                    const BackwardSpace& space) const {
    real* carried = space.carry + m * Hv + unit;
    if (step < 0) {
      const int64_t at = (s.direction * B + s.rows[m]) * H + unit;
      store(p.dh0 + at, d, H - unit);
      if (Epilogue::has_c) store(p.dc0 + at, load(carried), H - unit);
    } else {
      vec kept[KEPT + 1], plane[PLANES], carry = load(carried);
      UNROLL for (int k = 0; k < KEPT; ++k) kept[k] = load(space.kept_row[r] + unit * KEPT + k * VL);
      Epilogue::backward(d, kept, load(space.h[r] + unit, H - unit), c_before(space, r, step, unit),
                     load(space.y[r] + unit, H - unit), carry, plane);
      UNROLL for (int k = 0; k < PLANES; ++k) store(space.gates + r * ldg + k * Hv + unit, plane[k]);
      if (Epilogue::adds_carry || Epilogue::has_c) store(carried, carry);
      prefetch(s, r, step, unit, space);
    }
  }

  // Time runs downwards here, which the hardware does not prefetch.
  INLINE void prefetch(const Share& s, int64_t r, int64_t step, int64_t unit, const BackwardSpace& space) const {
    constexpr int64_t AHEAD = 2;
    if (step < AHEAD + 1) return;
    const int64_t stride = onwards(s, B * D * H);
    if (p.dy) __builtin_prefetch(p.dy + (space.y[r] - p.y) - AHEAD * stride + unit, 0, 2);
    __builtin_prefetch(space.h[r] - AHEAD * stride + unit, 0, 2);
    if (KEPT && !p.rebuild) UNROLL for (int k = 0; k < KEPT; ++k)
      __builtin_prefetch(space.kept_row[r] - AHEAD * B * record + unit * KEPT + k * VL, 0, 2);
  }

  void weight_sums(const BackwardSpace& space, int64_t rows) const {
    const int64_t nx = input_vectors(), nh = Hv / VL;
    real *w_ih = space.sums, *w_hh = w_ih + G * Hv * nx * VL, *b = w_hh + G * Hv * Hv;
    pack_rows(space.x, rows, I, nx, space.packed);
    Columns gates{space.gates, ldg, SLAB};
    if (far_apart()) {
      pack_columns(space.gates, ldg, PLANES * Hv, rows, space.columns);
      gates = {space.columns, SLAB, rows * SLAB};
    }
    Columns of_x = gates;
    of_x.begin += Epilogue::input_plane * Hv / SLAB * gates.slab;
    add_transposed(of_x, G * Hv, space.packed, rows, nx, w_ih);
    pack_rows(space.h, rows, H, nh, space.packed);
    add_transposed(gates, G * Hv, space.packed, rows, nh, w_hh);
    in_tiles<4>(PLANES * nh, [&](int64_t first, auto size) INLINED {
      constexpr int N = decltype(size)::value, FEW = 16;
      vec sum[N] = {};
      for (int64_t block = 0; block < rows; block += FEW) {
        vec part[N] = {};
        for (int64_t r = block; r < std::min(rows, block + FEW); ++r) UNROLL for (int v = 0; v < N; ++v)
          part[v] += load(space.gates + r * ldg + (first + v) * VL);
        UNROLL for (int v = 0; v < N; ++v) sum[v] += part[v];
      }
      UNROLL for (int v = 0; v < N; ++v) store(b + (first + v) * VL, load(b + (first + v) * VL) + sum[v]);
    });
  }

  template <int NX>
  void input_gradient(int d, const BackwardSpace& space, int64_t rows) const {
    const real** gates = space.x;  // the inputs are done with
    for (int64_t r = 0; r < rows; ++r) gates[r] = space.gates + r * ldg + Epilogue::input_plane * Hv;
    for (int64_t panel = 0; panel * NX * VL < I; ++panel)
      in_tiles<tile_rows(NX)>(rows, [&](int64_t first, auto size) INLINED {
        constexpr int ROWS = decltype(size)::value;
        vec sum[ROWS][NX] = {};
        multiply(gates + first, backward_ih[d] + panel * G * Hv * NX * VL, G * Hv, sum);
        for (int i = 0; i < ROWS; ++i) UNROLL for (int v = 0; v < NX; ++v) {
          const int64_t column = (panel * NX + v) * VL;
          if (column < I) store(space.dx[first + i] + column, sum[i][v], I - column);
        }
      });
  }

  // One row of the weights' gradients: the sum of what the shares of a direction found, in their order.
  void reduce(int64_t d, int64_t row, const std::vector<BackwardSpace>& space) const {
    const int64_t gate = row / H, unit = row % H, Iv = rounded(I, VL);
    int64_t plane = 0;
    while (Epilogue::gate_of_plane[plane] != gate) ++plane;
    real* w_ih = p.dw + d * G * H * (I + H + 2) + row * I;
    real* w_hh = p.dw + d * G * H * (I + H + 2) + G * H * I + row * H;
    real* b = p.dw + d * G * H * (I + H + 2) + G * H * (I + H) + row;
    b[0] = b[G * H] = 0;
    bool found = false;
    for (size_t i = 0; i < share.size(); ++i) {
      if (share[i].direction != d) continue;
      const real *of_x = space[i].sums, *of_h = of_x + G * Hv * Iv, *of_b = of_h + G * Hv * Hv;
      add_row(of_x + (gate * Hv + unit) * Iv, I, found, w_ih);
      add_row(of_h + (plane * Hv + unit) * Hv, H, found, w_hh);
      b[0] += of_b[(Epilogue::input_plane + gate) * Hv + unit];
      b[G * H] += of_b[plane * Hv + unit];
      found = true;
    }
    if (found) return;
    std::fill(w_ih, w_ih + I, real(0));
    std::fill(w_hh, w_hh + H, real(0));
  }

  static void add_row(const real* from, int64_t n, bool adds, real* to) {
    for (int64_t j = 0; j < n; j += VL)
      store(to + j, adds ? load(to + j, n - j) + load(from + j, n - j) : load(from + j, n - j), n - j);
  }
};

// -------------------------------------------------------------------------------------------------------- replicas

template <class T>
void shift(T*& pointer, int64_t bytes) {
  if (pointer) pointer = reinterpret_cast<T*>(reinterpret_cast<std::uintptr_t>(pointer) + bytes);
}

// The problem of one replica, for so many threads.
Problem replica(Problem p, const Distances& by, int64_t i, int64_t threads) {
  p.threads = threads;
  shift(p.x, i * by.x), shift(p.lengths, i * by.lengths);
  for (int d = 0; d < p.directions; ++d) {
    shift(p.h0[d], i * by.h0[d]), shift(p.c0[d], i * by.c0[d]);
    shift(p.w_ih[d], i * by.w_ih[d]), shift(p.w_hh[d], i * by.w_hh[d]);
    shift(p.b_ih[d], i * by.b_ih[d]), shift(p.b_hh[d], i * by.b_hh[d]);
  }
  shift(p.y, i * by.y), shift(p.h_end, i * by.h_end), shift(p.c_end, i * by.c_end), shift(p.kept, i * by.kept);
  shift(p.dy, i * by.dy), shift(p.dh_end, i * by.dh_end), shift(p.dc_end, i * by.dc_end);
  shift(p.dx, i * by.dx), shift(p.dh0, i * by.dh0), shift(p.dc0, i * by.dc0), shift(p.dw, i * by.dw);
  return p;
}

// Each thread runs whole replicas, so that none waits for another; where they are fewer than threads, one after another.
int64_t outer_threads(const Problem& p, const Distances& by) { return by.count < p.threads ? 1 : p.threads; }

template <class Run>
void run_replicas(const Problem& p, const Distances& by, Run run) {
  const int64_t outer = outer_threads(p, by);
  in_parallel(outer, outer, [&](int64_t thread) {
    for (int64_t i = thread; i < by.count; i += outer)
      run(replica(p, by, i, p.threads / outer), p.workspace + thread * by.workspace);
  });
}

template <class Measure>
int64_t largest_workspace(const Problem& p, const Distances& by, Measure measure) {
  const int64_t last = p.lengths ? by.count : 1, inner = p.threads / outer_threads(p, by);
  int64_t most = 0;
  for (int64_t i = 0; i < last; ++i) most = std::max<int64_t>(most, measure(replica(p, by, i, inner)));
  return rounded(most, 64);
}

}  // namespace

extern "C" {

// Return the bytes of workspace that it takes; nothing is computed where there are fewer.
int64_t forward(const Problem* p, int64_t bytes) {
  Layer<EPILOGUE> layer(*p);
  const int64_t needed = layer.forward(nullptr);
  if (needed <= bytes) layer.forward(p->workspace);
  return needed;
}
int64_t backward(const Problem* p, int64_t bytes) {
  Layer<EPILOGUE> layer(*p);
  const int64_t needed = layer.backward(nullptr);
  if (needed <= bytes) layer.backward(p->workspace);
  return needed;
}

// The same for replicas. The first two return the bytes of one thread's workspace.
int64_t forward_replicas_workspace(const Problem* p, const Distances* by) {
  return largest_workspace(*p, *by, [](const Problem& own) { return Layer<EPILOGUE>(own).forward(nullptr); });
}
int64_t backward_replicas_workspace(const Problem* p, const Distances* by) {
  return largest_workspace(*p, *by, [](const Problem& own) { return Layer<EPILOGUE>(own).backward(nullptr); });
}
void forward_replicas(const Problem* p, const Distances* by) {
  run_replicas(*p, *by, [](const Problem& own, char* space) { Layer<EPILOGUE>(own).forward(space); });
}
void backward_replicas(const Problem* p, const Distances* by) {
  run_replicas(*p, *by, [](const Problem& own, char* space) { Layer<EPILOGUE>(own).backward(space); });
}

// What the file was compiled for.
int vector_bytes() { return BYTES; }
}
