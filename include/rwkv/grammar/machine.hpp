// SPDX-License-Identifier: Apache-2.0
// Runs a program over bytes. All ways to read a text are followed at once; those that wait for the
// end of the same rule, called at the same place, share one continuation, so that ambiguous
// grammars take polynomial time.
#pragma once

#include <rwkv/grammar/program.hpp>
#include <rwkv/grammar/spelling.hpp>

#include <atomic>
#include <unordered_map>
#include <utility>

namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA {

/// A counted reference to something immutable that several states share, in several threads too.
template <class T>
class Ref {
 public:
  Ref() = default;
  explicit Ref(T* owned) noexcept : p_(owned) {}
  Ref(const Ref& other) noexcept : p_(other.p_) {
    if (p_ != nullptr) p_->references.fetch_add(1, std::memory_order_relaxed);
  }
  Ref(Ref&& other) noexcept : p_(std::exchange(other.p_, nullptr)) {}
  Ref& operator=(Ref other) noexcept {
    std::swap(p_, other.p_);
    return *this;
  }
  ~Ref() {
    if (p_ != nullptr && p_->references.fetch_sub(1, std::memory_order_acq_rel) == 1) dispose(p_);
  }
  [[nodiscard]] T* get() const noexcept { return p_; }
  T* operator->() const noexcept { return p_; }
  T& operator*() const noexcept { return *p_; }
  explicit operator bool() const noexcept { return p_ != nullptr; }
  /// Takes the reference out.
  [[nodiscard]] T* release() noexcept { return std::exchange(p_, nullptr); }
  friend bool operator==(const Ref& a, const Ref& b) noexcept { return a.p_ == b.p_; }

 private:
  T* p_ = nullptr;
};

/// What an object has already. None at all: it is at its beginning.
struct ObjectData {
  std::atomic<std::uint32_t> references{1};
  std::vector<std::uint64_t> seen;    // a bit per declared property
  std::vector<std::uint64_t> others;  // hashes of other names, if they must differ
  std::uint32_t count = 0;
  std::uint32_t missing = 0;  // how many required ones
  std::uint32_t place = 0;    // in an ordered object: of the next property, at least
  std::uint32_t rule = 0;     // of the value that comes next

  ObjectData() = default;
  ObjectData(const ObjectData& o)
      : seen(o.seen),
        others(o.others),
        count(o.count),
        missing(o.missing),
        place(o.place),
        rule(o.rule) {}
  ObjectData& operator=(const ObjectData&) = delete;
};
inline void dispose(ObjectData* p) noexcept { delete p; }

/// What an object of this kind may hold next, with what it has.
class Remaining {
 public:
  Remaining(const Object& object, const ObjectData* data) noexcept
      : o_(object),
        data_(data),
        missing_(data != nullptr ? data->missing : object.required_count),
        count_(data != nullptr ? data->count : 0),
        place_(data != nullptr ? data->place : 0),
        room_(object.most - count_) {}

  [[nodiscard]] bool may_end() const noexcept { return missing_ == 0 && count_ >= o_.least; }

  [[nodiscard]] bool others() const noexcept {
    return o_.others && room_ > missing_ && (!o_.ordered || missing_ == 0);
  }

  [[nodiscard]] bool has(std::uint32_t i) const noexcept {
    if (o_.rules[i] == Object::no_rule || room_ == 0 || seen(i)) return false;
    if (!o_.required[i] && room_ <= missing_) return false;
    if (!o_.ordered) return true;
    const std::uint32_t at = o_.place[i];
    return at >= place_ && at <= o_.next_required[place_] &&
           (o_.others || count_ + o_.allowed_from[at] >= o_.least);
  }

  /// Any property from `low` to `high`?
  [[nodiscard]] bool any(std::uint32_t low, std::uint32_t high) const noexcept {
    if (o_.ordered) {
      const auto n = static_cast<std::uint32_t>(o_.rules.size());
      const std::uint32_t last = (std::min)(o_.next_required[place_] + 1, n);
      if (last - (std::min)(place_, last) < high - low) {
        for (std::uint32_t p = place_; p < last; ++p)
          if (const std::uint32_t i = o_.at_place[p]; i >= low && i < high && has(i)) return true;
        return false;
      }
    }
    for (std::uint32_t i = low; i < high; ++i) {
      if (i % 64 == 0 && data_ != nullptr && data_->seen[i / 64] == ~std::uint64_t{0}) {
        i += 63;
        continue;
      }
      if (has(i)) return true;
    }
    return false;
  }

  [[nodiscard]] bool goes_on() const noexcept {
    return others() || any(0, static_cast<std::uint32_t>(o_.rules.size()));
  }

  /// What the object has after property `i`, or (i = number of properties) another one.
  [[nodiscard]] Ref<ObjectData> with(std::uint32_t i, std::uint32_t rule,
                                     std::uint64_t hash) const {
    const auto n = static_cast<std::uint32_t>(o_.rules.size());
    auto* const next = data_ != nullptr ? new ObjectData(*data_) : new ObjectData;
    const Ref<ObjectData> out(next);
    if (data_ == nullptr) {
      next->seen.assign((n + 63) / 64, 0);
      next->missing = o_.required_count;
    }
    next->rule = rule;
    ++next->count;
    if (i < n) {
      next->seen[i / 64] |= std::uint64_t{1} << i % 64;
      if (o_.required[i]) --next->missing;
      next->place = o_.place[i] + 1;
    } else {
      next->place = n;
      if (o_.distinct_others) next->others.push_back(hash);
    }
    return out;
  }

  [[nodiscard]] bool had_other(std::uint64_t hash) const noexcept {
    return data_ != nullptr &&
           std::find(data_->others.begin(), data_->others.end(), hash) != data_->others.end();
  }

 private:
  [[nodiscard]] bool seen(std::uint32_t i) const noexcept {
    return data_ != nullptr && (data_->seen[i / 64] >> i % 64 & 1) != 0;
  }

  const Object& o_;
  const ObjectData* data_;
  std::uint32_t missing_, count_, place_;
  std::uint32_t room_;
};

struct Continuation;

/// Where a rule goes on: its program, how many rounds or items it has, or what its object has.
struct Place {
  std::uint32_t pc = 0;
  std::uint32_t count = 0;
  Ref<ObjectData> object{};
  Ref<Continuation> parent{};  // of the rule; none: it is the root

  friend bool operator==(const Place&, const Place&) = default;
};

/// What waits for the end of a rule.
struct Continuation {
  std::atomic<std::uint32_t> references{1};
  std::vector<Place> places;
};

/// Chains of these may be long: no recursion.
inline void dispose(Continuation* p) noexcept {
  std::vector<Continuation*> dead{p};
  while (!dead.empty()) {
    Continuation* const c = dead.back();
    dead.pop_back();
    for (Place& place : c->places) {
      Continuation* const parent = place.parent.release();
      if (parent != nullptr && parent->references.fetch_sub(1, std::memory_order_acq_rel) == 1)
        dead.push_back(parent);
    }
    delete c;
  }
}

/// How far into a terminal.
struct Progress {
  std::uint32_t q = 0;      // state of its automaton
  std::uint32_t count = 0;  // characters begun
  Spelling spelling{};
  std::uint64_t hash = 0;  // of a name among others

  friend bool operator==(const Progress&, const Progress&) = default;
};

/// One way to read the text: within a terminal.
struct Thread {
  Place place;
  Progress progress;

  friend bool operator==(const Thread&, const Thread&) = default;
};

struct State {
  std::vector<Thread> threads;
  bool complete = false;  // the text may end here

  void clear() noexcept {
    threads.clear();
    complete = false;
  }
  [[nodiscard]] bool dead() const noexcept { return threads.empty() && !complete; }
};

/// Whether things were met before: few are compared, many are hashed. `list` is where they are
/// kept.
class Met {
 public:
  void clear() noexcept { numbers_.clear(); }

  /// Appends `value` unless it is there. False if it was.
  template <class T>
  bool add(std::vector<T>& list, T value) {
    if (list.size() < few) {
      if (std::find(list.begin(), list.end(), value) != list.end()) return false;
      list.push_back(std::move(value));
      return true;
    }
    if (numbers_.empty())
      for (std::size_t i = 0; i < list.size(); ++i) numbers_.emplace(hash(list[i]), i);
    const std::size_t key = hash(value);
    const auto [from, to] = numbers_.equal_range(key);
    for (auto i = from; i != to; ++i)
      if (list[i->second] == value) return false;
    numbers_.emplace(key, list.size());
    list.push_back(std::move(value));
    return true;
  }

 private:
  static constexpr std::size_t few = 24;

  [[nodiscard]] static std::size_t mix(std::size_t h, std::size_t x) noexcept {
    return (h ^ x) * std::size_t{0x9e3779b1u} + (h >> 15);
  }
  [[nodiscard]] static std::size_t hash(const void* p) noexcept {
    return std::hash<const void*>()(p);
  }
  [[nodiscard]] static std::size_t hash(const Place& p) noexcept {
    return mix(mix(mix(hash(p.parent.get()), hash(p.object.get())), p.count), p.pc);
  }
  [[nodiscard]] static std::size_t hash(const Thread& t) noexcept {
    const Progress& p = t.progress;
    return mix(mix(mix(mix(hash(t.place), p.q), p.count), p.spelling.low), p.spelling.depth);
  }

  std::unordered_multimap<std::size_t, std::size_t> numbers_;
};

/// The steps of a program. Holds scratch: one for each thread.
class Machine {
 public:
  static constexpr std::size_t most_threads = 20'000;

  explicit Machine(const Program& program) : p_(&program) {}

  [[nodiscard]] const Program& program() const noexcept { return *p_; }

  void start(State& out) {
    begin(out);
    enter({.pc = p_->rules[p_->root]});
    close(out);
  }

  /// All that `in` may become by a byte. `out` is another state.
  void step(const State& in, unsigned char byte, State& out) {
    begin(out);
    for (const Thread& thread : in.threads) {
      Progress progress = thread.progress;
      bool more = false;
      const std::int64_t end = advance(thread, progress, byte, more);
      if (end != rejected && more) add(out, {thread.place, progress});
      if (end >= 0) leave(thread.place, progress, end);
    }
    close(out);
  }

  /// All that is possible behind the terminal of `thread`, read to the end with outcome `end`.
  void after(const Thread& thread, const Progress& progress, std::int64_t end, State& out) {
    begin(out);
    leave(thread.place, progress, end);
    close(out);
  }

  static constexpr std::int64_t rejected = -2, unfinished = -1;

  /// Goes on by a byte within a terminal. `rejected`; or `unfinished`; or the outcome, if the
  /// terminal may end here: 0, for a key the index of the property, or their number and the tag of
  /// another. `more`: it may go on as well.
  [[nodiscard]] std::int64_t advance(const Thread& thread, Progress& progress, unsigned char byte,
                                     bool& more) const {
    const Op& op = p_->ops[thread.place.pc];
    const Terminal& t = terminal(op);
    switch (t.kind) {
      case Terminal::Kind::automaton:
        return advance(*t.dfa, progress, byte, more);
      case Terminal::Kind::counted:
        if (progress.q == 1 && (byte == '"' ? progress.count < t.least : progress.count >= t.most))
          return rejected;
        if (progress.q == 1 && byte != '"') ++progress.count;
        return advance(*t.dfa, progress, byte, more);
      case Terminal::Kind::names: {
        if (!grammar::advance(progress.spelling, *t.names, byte)) return rejected;
        more = progress.spelling.place != Spelling::Place::after;
        if (!more) return 0;
        return viable(progress.spelling, *t.names,
                      [](std::uint32_t, std::uint32_t) { return true; })
                   ? unfinished
                   : rejected;
      }
      default:
        return advance_key(thread, t, p_->objects[op.a], progress, byte, more);
    }
  }

  [[nodiscard]] const Terminal& terminal(const Op& op) const noexcept {
    return p_->terminals[op.code == Op::Code::key ? p_->objects[op.a].terminal : op.a];
  }

  /// The only byte that can come next; -1: none can, -2: several can.
  [[nodiscard]] int only(const State& state) const {
    int only = -1;
    for (const Thread& thread : state.threads) {
      const int byte = only_of(thread);
      if (byte == -2 || (only != -1 && only != byte)) return -2;
      only = byte;
    }
    return only;
  }

 private:
  struct Called {
    std::uint32_t rule;
    Ref<Continuation> continuation;
    Met met;        // of its places
    bool finished;  // without having read anything
  };

  void begin(State& out) {
    out.clear();
    called_.clear();
    todo_.clear();
    met_.clear();
    met_places_.clear();
    met_threads_.clear();
    finished_.clear();
    met_finished_.clear();
  }

  [[nodiscard]] static std::int64_t advance(const ByteDfa& dfa, Progress& progress,
                                            unsigned char byte, bool& more) noexcept {
    progress.q = dfa.next(progress.q, byte);
    if (progress.q == ByteDfa::dead) return rejected;
    more = dfa.only(progress.q) != -1;
    return dfa.accepting(progress.q) ? 0 : unfinished;
  }

  [[nodiscard]] std::int64_t advance_key(const Thread& thread, const Terminal& t,
                                         const Object& object, Progress& progress,
                                         unsigned char byte, bool& more) const {
    const auto n = static_cast<std::int64_t>(object.rules.size());
    const Remaining remaining(object, thread.place.object.get());
    if (progress.q != ByteDfa::dead) progress.q = t.dfa->next(progress.q, byte);
    const bool other = progress.q != ByteDfa::dead;
    if (other && object.distinct_others) hash(progress, byte);
    Spelling& s = progress.spelling;
    bool declared = s.low < s.high;
    if (declared && !grammar::advance(s, *t.names, byte)) {
      s.low = s.high = 0;
      declared = false;
    }
    more = byte != '"' || (other && t.dfa->only(progress.q) != -1) ||
           (declared && s.place != Spelling::Place::after);
    if (declared && s.place == Spelling::Place::after) {
      more = false;
      return remaining.has(s.low) ? static_cast<std::int64_t>(s.low) : rejected;
    }
    if (other) {
      if (!t.dfa->accepting(progress.q)) return unfinished;
      more = false;
      if (object.distinct_others && remaining.had_other(progress.hash)) return rejected;
      return n + t.dfa->tag(progress.q);
    }
    return declared && viable(s, *t.names,
                              [&](std::uint32_t low, std::uint32_t high) {
                                return remaining.any(low, high);
                              })
               ? unfinished
               : rejected;
  }

  // Of the string that is spelled, not of its spelling. (FNV-1a)
  static void hash(Progress& progress, unsigned char byte) noexcept {
    Spelling after = progress.spelling;
    const Spelled spelled = spell(after, byte);
    const auto mix = [&](char c) {
      progress.hash = (progress.hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    };
    if (spelled.what == Spelled::What::byte) mix(static_cast<char>(byte));
    if (spelled.what == Spelled::What::character) {
      const Utf8 character(spelled.value);
      for (const char c : character.view()) mix(c);
    }
    if (progress.spelling.low == progress.spelling.high) progress.spelling = after;
  }

  void add(State& out, Thread thread) {
    met_threads_.add(out.threads, std::move(thread));
    if (out.threads.size() > most_threads) too_ambiguous();
  }

  void enter(Place place) { todo_.push_back(std::move(place)); }

  // The terminal at `place` has been read.
  void leave(const Place& place, const Progress& progress, std::int64_t end) {
    const Op& op = p_->ops[place.pc];
    if (op.code == Op::Code::key) {
      const Object& object = p_->objects[op.a];
      const auto n = static_cast<std::int64_t>(object.rules.size());
      const std::uint32_t rule = end < n ? object.rules[static_cast<std::size_t>(end)]
                                         : object.other_rules[static_cast<std::size_t>(end - n)];
      enter(
          {.pc = op.next,
           .object = Remaining(object, place.object.get())
                         .with(static_cast<std::uint32_t>((std::min)(end, n)), rule, progress.hash),
           .parent = place.parent});
    } else {
      enter({op.next, place.count, place.object, place.parent});
    }
  }

  // Follows everything that reads nothing.
  void close(State& out) {
    while (!todo_.empty()) {
      Place place = std::move(todo_.back());
      todo_.pop_back();
      if (!p_->productive[place.pc]) continue;
      const Op& op = p_->ops[place.pc];
      switch (op.code) {
        case Op::Code::terminal:
        case Op::Code::key:
          begin_terminal(out, std::move(place), op);
          break;
        case Op::Code::call:
          call(op.a, {op.next, place.count, place.object, place.parent});
          break;
        case Op::Code::split:
          if (!meet(place)) break;
          for (std::uint32_t i = op.b; i-- > op.a;)
            enter({p_->targets[i], place.count, place.object, place.parent});
          break;
        case Op::Code::loop: {
          if (!meet(place)) break;
          if (place.count >= op.a) enter({op.next, 0, place.object, place.parent});
          if (place.count >= op.b || !p_->rule_productive(p_->ops[op.body].a)) break;
          const std::uint32_t enough = op.b == unbounded ? op.a : op.b;
          enter({op.body, (std::min)(place.count + 1, enough), place.object, place.parent});
          break;
        }
        case Op::Code::finish:
          finish(out, place.parent);
          break;
        case Op::Code::value:
          call(place.object->rule, {op.next, 0, place.object, place.parent});
          break;
        case Op::Code::object_ends:
          if (Remaining(p_->objects[op.a], place.object.get()).may_end())
            enter({op.next, 0, place.object, place.parent});
          break;
        case Op::Code::object_goes_on:
          if (Remaining(p_->objects[op.a], place.object.get()).goes_on())
            enter({op.next, 0, place.object, place.parent});
          break;
        case Op::Code::item: {
          const Array& array = p_->arrays[op.a];
          const std::uint32_t enough =
              array.most == unbounded
                  ? (std::max)(array.least, static_cast<std::uint32_t>(array.prefix.size()))
                  : array.most;
          call(place.count < array.prefix.size() ? array.prefix[place.count] : array.items,
               {op.next, (std::min)(place.count + 1, enough), {}, place.parent});
          break;
        }
        case Op::Code::array_ends:
          if (place.count >= p_->arrays[op.a].least)
            enter({op.next, place.count, {}, place.parent});
          break;
        case Op::Code::array_goes_on:
          if (place.count < p_->arrays[op.a].most) enter({op.next, place.count, {}, place.parent});
          break;
      }
    }
  }

  void begin_terminal(State& out, Place place, const Op& op) {
    const Terminal& t = terminal(op);
    Thread thread{std::move(place), {}};
    Progress& progress = thread.progress;
    bool ends = false;
    bool more = true;
    if (t.kind == Terminal::Kind::automaton) {
      ends = t.dfa->accepting(0);
      more = t.dfa->only(0) != -1;
    }
    if (t.kind == Terminal::Kind::names || t.kind == Terminal::Kind::key)
      progress.spelling.high = static_cast<std::uint32_t>(t.names->texts.size());
    if (t.kind == Terminal::Kind::key) {
      const Remaining remaining(p_->objects[op.a], thread.place.object.get());
      if (t.dfa->empty() || !remaining.others()) progress.q = ByteDfa::dead;
    }
    if (ends) leave(thread.place, progress, 0);
    if (more) add(out, std::move(thread));
  }

  void call(std::uint32_t rule, Place back) {
    if (!p_->productive[back.pc] || !p_->rule_productive(rule)) return;
    for (Called& c : called_) {
      if (c.rule != rule) continue;
      if (!c.met.add(c.continuation->places, back)) return;
      if (c.continuation->places.size() > most_threads) too_ambiguous();
      if (c.finished) enter(std::move(back));
      return;
    }
    Ref<Continuation> continuation(new Continuation);
    continuation->places.push_back(std::move(back));
    called_.push_back({rule, continuation, {}, false});
    enter({p_->rules[rule], 0, {}, std::move(continuation)});
  }

  void finish(State& out, const Ref<Continuation>& parent) {
    if (!parent) {
      out.complete = true;
      return;
    }
    // However many ways there are to its end.
    if (!met_finished_.add(finished_, static_cast<const void*>(parent.get()))) return;
    for (Called& c : called_)
      if (c.continuation == parent) c.finished = true;
    for (const Place& place : parent->places) enter(place);
  }

  // False if this place was met in this step before.
  bool meet(const Place& place) {
    if (met_.size() > most_threads) too_ambiguous();
    return met_places_.add(met_, place);
  }

  [[noreturn]] static void too_ambiguous() {
    fail_with(ErrorCategory::argument,
              "the grammar is too ambiguous: it reads this text in more than ", most_threads,
              " ways");
  }

  [[nodiscard]] int only_of(const Thread& thread) const {
    const Op& op = p_->ops[thread.place.pc];
    const Terminal& t = terminal(op);
    if (t.kind == Terminal::Kind::automaton) return t.dfa->only(thread.progress.q);
    const Spelling& s = thread.progress.spelling;
    if (t.kind == Terminal::Kind::key && s.low == s.high)
      return thread.progress.q == ByteDfa::dead ? -1 : t.dfa->only(thread.progress.q);
    if (s.place == Spelling::Place::text && s.low + 1 == s.high &&
        t.kind != Terminal::Kind::counted &&
        (t.kind == Terminal::Kind::names || thread.progress.q == ByteDfa::dead)) {
      const std::string& text = t.names->texts[s.low];
      if (s.depth == text.size()) return '"';
      const auto byte = static_cast<unsigned char>(text[s.depth]);
      if (!may_be_escaped(t.names->spelling, byte)) return byte;
    }
    int only = -1;
    for (int byte = 0; byte < 256; ++byte) {
      Progress progress = thread.progress;
      bool more = false;
      if (advance(thread, progress, static_cast<unsigned char>(byte), more) == rejected) continue;
      if (only != -1) return -2;
      only = byte;
    }
    return only;
  }

  const Program* p_;
  // Of one step.
  std::vector<Called> called_;
  std::vector<Place> todo_;
  std::vector<Place> met_;
  std::vector<const void*> finished_;  // continuations
  Met met_places_, met_threads_, met_finished_;
};

}  // namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA
