// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once
#include "block_union.hpp"
#include "list_state_rows.hpp"

/// The residual branch on Hopper in state form (spec section 4), for lists that a tile's tokens share: a warp walks a
/// list and has the copy engine bring features and values; two warpgroups sum what the list selects, subtract it from
/// the prefix state, and multiply the rows of all its tokens with the difference. A block of threads stays for many
/// lists, and the next one's blocks arrive while rows of this one are multiplied.
namespace spla::cuda
{

/// Registers of a thread: together no more than a block of threads starts with.
inline constexpr int list_loading_registers = 56;
inline constexpr int list_multiplying_registers = 224;

/// The valid entries of a list (competing, ascending, each once; others are passed over), 32 at a time, an entry in a
/// lane. All of a warp call each function.
class list_entries
{
public:
    __device__ list_entries(std::int32_t const* list, int length, basic_block_range<int> const& competing)
        : list_(list), length_(length), competing_(competing)
    {
    }
    /// Goes on to the next 32; false at the end.
    __device__ bool next()
    {
        if (begin_ >= length_) return false;
        int const lane = threadIdx.x % 32;
        entry_ = begin_ + lane < length_ ? list_[begin_ + lane] : -1;
        begin_ += 32;
        bool const competes = competing_.contains(entry_);
        int largest = competes ? entry_ : -1; // up to this lane
#pragma unroll
        for (int far = 1; far < 32; far *= 2)
        {
            int const other = __shfl_up_sync(0xffffffffu, largest, far);
            if (lane >= far && other > largest) largest = other;
        }
        int before = __shfl_up_sync(0xffffffffu, largest, 1);
        if (lane == 0 || before < largest_) before = largest_;
        valid_ = __ballot_sync(0xffffffffu, competes && entry_ > before);
        int const last = __shfl_sync(0xffffffffu, largest, 31);
        if (last > largest_) largest_ = last;
        return true;
    }
    /// Lanes of valid entries.
    __device__ std::uint32_t valid() const
    {
        return valid_;
    }
    __device__ int entry(int lane) const
    {
        return __shfl_sync(0xffffffffu, entry_, lane);
    }

private:
    std::int32_t const* list_;
    int length_;
    basic_block_range<int> competing_;
    int begin_ = 0, largest_ = -1; ///< of competing ones so far
    int entry_;
    std::uint32_t valid_;
};

/// The warp that walks and loads.
template <int Halves, int Width>
struct list_state_loader
{
    using memory = list_state_memory<Halves, Width>;
    static constexpr int fetch_ahead = 12; ///< blocks before a list's end at which queries are fetched
    static constexpr int blocks_ahead = memory::stages / memory::stages_a_block; ///< that there is room for
    list_state_arguments const& a;
    memory& m;
    int lane;

    __device__ void run()
    {
        int const all = a.shape.tiles.most_tiles * a.shape.tiles.key_heads;
        int items = 0, works = 0, stages = 0; // so far
        for (int number = blockIdx.x; number < all; number += gridDim.x)
        {
            tile_place const t = find_tile(a.shape.tiles, number);
            if (!t.exists) continue;
            load(t, items++, stages, works);
        }
        if (lane != 0) return;
        int const place = items % memory::items;
        m.item_free[place].wait(free_parity(items, memory::items));
        m.item[place].place.exists = false;
        m.item_full[place].arrive();
    }

private:
    __device__ void load(tile_place const& t, int items, int& stages, int& works_so_far)
    {
        basic_window<int> const& bounds = a.shape.tiles.bounds;
        basic_block_range<int> const competing = bounds.competing(t.begin); // the same for all of its tokens
        std::int32_t const* list = nullptr;
        int length = 0;
        if (a.list && competing.count() > 0)
        {
            int const tile = floor_divide(t.first, bounds.tile) - floor_divide(t.first_position, bounds.tile);
            list = a.list.list(t.sequence, tile, t.head);
            std::int64_t const held = a.list.length(t.sequence, tile, t.head);
            length = static_cast<int>(held < a.list.capacity ? held : a.list.capacity);
        }
        int selected = 0;
        for (list_entries walk(list, length, competing); walk.next();) selected += __popc(walk.valid());
        bool const works = selected < competing.count();
        if (lane == 0) announce(t, items, selected, works);
        __syncwarp();
        if (!works) return;
        detail::sequence const s = a.shape.tiles.sequences[t.sequence];
        bool const running = competing.end == a.state.end_after(s);
        int const state =
            t.head + static_cast<int>(running ? a.state.running_number(s, competing.end)
                                              : a.state.prefix_number(s, competing.end - a.state.end_before(s)));
        CUtensorMap const& states = running ? a.running : a.prefix;
        int const fetch_at = selected > fetch_ahead ? selected - fetch_ahead : 0;
        int n = 0, boxes = 0; // so far
        for (list_entries walk(list, length, competing); walk.next();)
            for (std::uint32_t left = walk.valid(); left != 0; left &= left - 1)
            {
                int const block = walk.entry(__ffs(left) - 1);
                if (n == fetch_at) fetch_queries(a.query, t, a.shape.tiles.group, a.shape.width);
                if (lane == 0) load_block(block, t, stages);
                __syncwarp();
                stages += memory::stages_a_block;
                // Little by little; not before the list's first blocks, which come while the place is still in use.
                if (++n > blocks_ahead && boxes < memory::state_boxes)
                {
                    load_state(states, state, boxes, boxes + 1, works_so_far);
                    ++boxes;
                }
            }
        if (selected == 0) fetch_queries(a.query, t, a.shape.tiles.group, a.shape.width);
        load_state(states, state, boxes, memory::state_boxes, works_so_far);
        ++works_so_far;
    }
    /// Boxes [begin, end) of a prefix state to where the last list's difference was.
    __device__ void load_state(CUtensorMap const& states, int number, int begin, int end, int works_so_far) const
    {
        constexpr int to_a_half = Width / state_columns;
        if (lane == 0 && begin == 0)
        {
            m.difference_free.wait(free_parity(works_so_far, 1));
            m.state_full.arrive_expecting(sizeof(m.state));
        }
        if (lane == 0)
            for (int box = begin; box < end; ++box)
                copy_box(states, m.state_full, m.state[box], box % to_a_half * state_columns, 0, box / to_a_half,
                         number);
        __syncwarp();
    }
    __device__ void announce(tile_place const& t, int items, int blocks, bool works)
    {
        int const place = items % memory::items;
        m.item_free[place].wait(free_parity(items, memory::items));
        list_item& to = m.item[place];
        to.place = t;
        to.blocks = blocks;
        to.works = works;
        m.item_full[place].arrive();
    }
    __device__ void load_block(int block, tile_place const& t, int stages)
    {
        auto const features = a.features_map(t.sequence, block * block_tokens);
        auto const value = a.value_map(t.sequence, block * block_tokens);
#pragma unroll 1
        for (int i = 0; i < memory::stages_a_block; ++i)
        {
            int const place = (stages + i) % memory::stages, key = i * memory::stage_keys;
            auto& to = m.loaded[place];
            barrier& full = m.full[place];
            m.free[place].wait(free_parity(stages + i, memory::stages));
            full.arrive_expecting(sizeof(to));
#pragma unroll
            for (int p = 0; p < memory::feature_panels; ++p)
                copy_box(a.features, full, to.features[p], p * panel_width, t.head,
                         static_cast<int>(features.token) + key, static_cast<int>(features.batch));
#pragma unroll
            for (int p = 0; p < memory::panels; ++p)
                copy_box(a.value, full, to.value[p], p * panel_width, t.head, static_cast<int>(value.token) + key,
                         static_cast<int>(value.batch));
        }
    }
};

/// A warpgroup that multiplies.
template <class FeatureMap, int Width, class Memory>
__device__ void process_lists(list_state_arguments const& a, Memory& m)
{
    list_state_rows<FeatureMap, Width> rows(a, m, threadIdx.x / 128 - 1);
    for (int items = 0;; ++items)
    {
        int const place = items % Memory::items;
        m.item_full[place].wait(phase_parity(items, Memory::items));
        if (!m.item[place].place.exists) return;
        rows.process(m.item[place]);
        let_go(m.item_free[place]);
    }
}

template <class FeatureMap, int Width>
__global__ __launch_bounds__(384, 1) void list_state_kernel(__grid_constant__ list_state_arguments const a)
{
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    using memory = list_state_memory<feature_halves<FeatureMap>, Width>;
    extern __shared__ unsigned char raw[];
    memory& m = *reinterpret_cast<memory*>(raw + (1024 - shared_address(raw) % 1024) % 1024);
    if (threadIdx.x == 0)
    {
        for (int i = 0; i < memory::items; ++i) m.item_full[i].init(1), m.item_free[i].init(meeting_warps);
        for (int i = 0; i < memory::stages; ++i) m.full[i].init(1), m.free[i].init(memory::summing_warps);
        m.state_full.init(1), m.difference_full.init(memory::summing_warps), m.difference_free.init(meeting_warps);
        fence_barrier_init();
    }
    fence_shared_writes();
    __syncthreads();
    if (threadIdx.x < 128)
    {
        give_registers<list_loading_registers>();
        if (threadIdx.x < 32)
            list_state_loader<feature_halves<FeatureMap>, Width>{a, m, static_cast<int>(threadIdx.x)}.run();
    }
    else
    {
        take_registers<list_multiplying_registers>();
        process_lists<FeatureMap, Width>(a, m);
    }
#endif
}

} // namespace spla::cuda
