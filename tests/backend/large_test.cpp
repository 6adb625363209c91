// SPDX-FileCopyrightText: The spla authors
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Offsets beyond 2^31: views whose numbers lie far apart, against the same numbers packed, bit for bit; a sequence of a
// million tokens against the definition.
#include "conformance/conforms.hpp"

#include <sys/mman.h>

using namespace spla_test;

namespace
{
constexpr std::int64_t token_stride = 8000003, batch_stride = std::int64_t{1} << 31;

/// Memory that a host has only where it is touched: a view may span more of it than the machine holds.
class sparse_memory
{
public:
    explicit sparse_memory(std::size_t bytes) : bytes_(bytes)
    {
        at_ = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at_ == MAP_FAILED) at_ = nullptr;
    }
    sparse_memory(sparse_memory const&) = delete;
    ~sparse_memory()
    {
        if (at_) ::munmap(at_, bytes_);
    }
    void* data() const { return at_; }

private:
    std::size_t bytes_;
    void* at_;
};

/// The same numbers, tokens `token_stride` numbers apart and sequences 2^31 and more.
template <class View>
View far_apart(View const& v, std::vector<std::unique_ptr<sparse_memory>>& kept)
{
    std::int64_t const stride[4] = {batch_stride + static_cast<std::int64_t>(v.extent(1)) * token_stride, token_stride,
                                    static_cast<std::int64_t>(v.extent(3)) + 5, 1};
    Kokkos::LayoutStride layout;
    std::int64_t last = 1;
    for (int i = 0; i < 4; ++i)
    {
        layout.dimension[i] = v.extent(i), layout.stride[i] = stride[i];
        last += static_cast<std::int64_t>(v.extent(i) - 1) * stride[i];
    }
    using number = typename View::value_type;
    kept.push_back(std::make_unique<sparse_memory>(static_cast<std::size_t>(last) * sizeof(number)));
    REQUIRE(kept.back()->data() != nullptr);
    REQUIRE(last > std::int64_t{1} << 32);
    View const made(static_cast<number*>(kept.back()->data()), layout);
    for (std::size_t b = 0; b < v.extent(0); ++b)
        for (std::size_t t = 0; t < v.extent(1); ++t)
            for (std::size_t h = 0; h < v.extent(2); ++h)
                for (std::size_t d = 0; d < v.extent(3); ++d) made(b, t, h, d) = v(b, t, h, d);
    return made;
}

template <class View>
bool same_numbers(View const& a, View const& b)
{
    int different = 0;
    for (std::size_t s = 0; s < a.extent(0); ++s)
        for (std::size_t t = 0; t < a.extent(1); ++t)
            for (std::size_t h = 0; h < a.extent(2); ++h)
                for (std::size_t d = 0; d < a.extent(3); ++d)
                    different += std::memcmp(&a(s, t, h, d), &b(s, t, h, d), sizeof(a(s, t, h, d))) != 0;
    return different == 0;
}
} // namespace

TEMPLATE_TEST_CASE("views of more than 2^31 numbers: the bits of packed ones", "[conformance][large]", float,
                   spla::bfloat16)
{
    auto o = small_options();
    o.segment_tokens = 512;
    data<host, TestType> near({2, 200, 600, 4, 2, 16, 12}, 21);
    stepper<host, TestType> of_near(near, o);
    std::vector<std::unique_ptr<sparse_memory>> kept;
    data<host, TestType> far = near;
    far.query = far_apart(near.query, kept), far.key = far_apart(near.key, kept);
    far.value = far_apart(near.value, kept);
    stepper<host, TestType> of_far(far, o);
    for (auto* const v : {&of_far.r.output, &of_far.r.sparse, &of_far.r.residual}) *v = far_apart(*v, kept);
    of_far.r.lse = far_apart(of_far.r.lse, kept);
    auto const course = [](auto& s) {
        s.append(0, 400);
        s.prefill(400, 590);
        s.step(590, 591);
        s.step(591, 600);
    };
    course(of_near), course(of_far);
    CHECK(same_numbers(of_near.r.output, of_far.r.output));
    CHECK(same_numbers(of_near.r.sparse, of_far.r.sparse));
    CHECK(same_numbers(of_near.r.residual, of_far.r.residual));
    CHECK(same_numbers(of_near.r.lse, of_far.r.lse));
    CHECK(same_bits(on_host(of_near.r.lists), on_host(of_far.r.lists)));
    CHECK(hold(near, of_near.r, o).passed());
    of_far.r.output(1, 199, 3, 11) = narrow<spla::accumulator_t<TestType>>(7);
    CHECK_FALSE(same_numbers(of_near.r.output, of_far.r.output));
}

TEMPLATE_LIST_TEST_CASE("a sequence of a million tokens, appended in segments and decoded", "[.full][large]",
                        host_and_device)
{
    constexpr int tokens = (1 << 20) + 37;
    spla::options<> o; // the defaults: 16384 competing blocks of 64
    data<TestType> const d({1, 3, tokens, 2, 1, 32, 32}, 22);
    stepper<TestType> s(d, o);
    for (int at = 0; at < tokens - 3; at += o.segment_tokens) s.append(at, std::min(at + o.segment_tokens, tokens - 3));
    s.prefill(tokens - 3, tokens - 2);
    s.step(tokens - 2, tokens);
    auto const v = hold(d, s.r, o);
    INFO(v.text());
    CHECK(v.passed());
    CHECK(v.residual.worst > 0);
}
