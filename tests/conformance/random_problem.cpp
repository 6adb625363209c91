// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "random_problem.hpp"

#include <sstream>

namespace spla_test
{
namespace
{
class draw
{
public:
    explicit draw(unsigned seed) : engine_(seed) {}
    int between(int low, int high) { return low + static_cast<int>(engine_() % static_cast<unsigned>(high - low + 1)); }
    bool one_in(int n) { return between(1, n) == 1; }
    template <class T>
    T of(std::initializer_list<T> list)
    {
        return list.begin()[between(0, static_cast<int>(list.size()) - 1)];
    }
    int divisor_of(int n)
    {
        std::vector<int> found;
        for (int i = 1; i <= n; ++i)
            if (n % i == 0) found.push_back(i);
        return found[between(0, static_cast<int>(found.size()) - 1)];
    }

private:
    std::mt19937 engine_;
};

shape draw_size(draw& d)
{
    shape s;
    s.batch = d.one_in(40) ? 0 : (d.one_in(4) ? 2 : 1);
    s.key_heads = d.between(1, 3);
    int const group = d.one_in(3) ? d.between(1, 8) : d.between(1, 3);
    if (s.key_heads * group > 8) s.key_heads = 1;
    s.query_heads = s.key_heads * group;
    s.keys = d.one_in(20) ? d.between(0, 300) : (d.one_in(4) ? d.between(0, 160) : d.between(0, 90));
    if (d.one_in(40)) s.keys = 0;
    s.queries = s.keys;
    if (d.one_in(3)) s.queries = d.between(1, std::max(1, s.keys));
    if (d.one_in(8)) s.queries = s.keys + d.between(1, 60);
    s.queries = std::max(1, s.queries);
    int const widest = d.one_in(6) ? 40 : 18;
    s.head_dim = d.between(1, widest), s.value_dim = d.between(1, widest);
    if (d.one_in(5)) s.residual_dim = d.between(1, widest);
    return s;
}

spla::options<> draw_options(draw& d)
{
    spla::options<> o;
    o.block = d.of({1, 2, 3, 4, 4, 5, 6, 7, 8, 8, 10, 12, 16, 24});
    o.sub_blocks = d.one_in(2) ? d.divisor_of(o.block) : 1;
    o.kept_keys = d.between(0, std::min(2, o.block / o.sub_blocks - 1));
    o.sink_blocks = d.between(0, 2), o.local_blocks = d.between(0, 3);
    o.top_k = d.one_in(20) ? 1000 : d.between(0, 8);
    if (d.one_in(3)) o.top_p = d.between(1, 99) / 100.0;
    if (d.one_in(4)) o.scale = d.of({0.0, 0.05, 0.3, 1.0});
    o.storage = d.of({spla::summary_storage::automatic, spla::summary_storage::automatic, spla::summary_storage::fp32,
                      spla::summary_storage::bf16, spla::summary_storage::int8});
    o.normalised = d.one_in(3);
    o.combine = d.of({spla::combination_kind::rms_sum, spla::combination_kind::rms_sum, spla::combination_kind::sum,
                      spla::combination_kind::separate, spla::combination_kind::sparse_only});
    o.may_read_unselected = d.one_in(3);
    o.residual =
        o.may_read_unselected
            ? d.of({spla::residual_mode::automatic, spla::residual_mode::subtract, spla::residual_mode::direct})
            : d.of({spla::residual_mode::automatic, spla::residual_mode::subtract});
    int const tile = d.one_in(2) ? d.divisor_of(o.block) : o.block * d.between(1, 4);
    if (d.one_in(4)) o.share = spla::sharing::first_query(tile);
    if (d.one_in(4)) o.share = spla::sharing::tile_sum(tile, d.one_in(2) ? 1 : d.between(2, 5));
    o.segment_tokens = std::max(o.block, o.share.tile) + d.between(0, 100);
    return o;
}
} // namespace

random_problem::random_problem(unsigned with_seed) : seed(with_seed)
{
    draw d(seed);
    size = draw_size(d);
    o = draw_options(d);
    padded = d.one_in(2), weighted = d.one_in(3);
    if (o.share.kind == spla::sharing_kind::tile_sum && size.queries > size.keys)
        o.segment_tokens = std::max(o.segment_tokens, size.queries);
    // A call of first_query sharing begins where a tile does, unless the state holds the tile's list.
    if (int const first = size.keys - size.queries; o.share.kind == spla::sharing_kind::first_query && first > 0)
        size.queries += first % o.share.tile;
    if (d.one_in(3) && size.queries <= o.segment_tokens && (size.queries <= size.keys || size.keys <= o.segment_tokens))
        calls = d.one_in(2) ? course::appended : course::decoded;
    if (d.one_in(4) && size.batch > 0 && size.keys > 1 && o.share.kind != spla::sharing_kind::tile_sum)
    {
        calls = course::parts;
        size.queries = size.keys;
        for (int at = 0; at < size.keys;)
        {
            at = std::min(size.keys, at + (d.one_in(2) ? d.between(1, 4) : d.between(1, 1 + size.keys / 2)));
            cuts.push_back(at);
        }
    }
}

std::string random_problem::text() const
{
    std::ostringstream s;
    s << "seed " << seed << ": " << size.text() << (padded ? ", padded" : "") << (weighted ? ", weighted" : "")
      << "\nblock " << o.block << " sinks " << o.sink_blocks << " local " << o.local_blocks << " top_k " << o.top_k
      << " top_p " << o.top_p << " kept " << o.kept_keys << " sub-blocks " << o.sub_blocks << " storage "
      << static_cast<int>(o.storage) << ' ' << spla::name(o.share.kind) << '<' << o.share.tile << "> every "
      << o.share.score_every << " combination " << static_cast<int>(o.combine) << " residual "
      << static_cast<int>(o.residual) << (o.may_read_unselected ? ", may read unselected" : "")
      << (o.normalised ? ", normalised" : "");
    if (o.scale) s << ", scale " << *o.scale;
    s << ", segments of " << o.segment_tokens << ", course " << static_cast<int>(calls);
    for (int const cut : cuts) s << ' ' << cut;
    return s.str();
}

} // namespace spla_test
