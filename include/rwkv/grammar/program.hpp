// SPDX-License-Identifier: Apache-2.0
// What a grammar is compiled to: rules, which are small programs that read terminals and call each
// other. Several things may be possible at once; the machine (machine.hpp) follows them all.
#pragma once

#include <rwkv/grammar/byte_dfa.hpp>
#include <rwkv/grammar/options.hpp>

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA {

inline constexpr std::uint32_t unbounded = (std::numeric_limits<std::uint32_t>::max)();

/// Strings in the order of their bytes, distinct, in UTF-8: those of an enumeration, or the names
/// of an object's properties. As terminals they are read in JSON's spelling.
struct Names {
  std::vector<std::string> texts;
  JsonSpelling spelling = JsonSpelling::usual;
};

/// A terminal.
struct Terminal {
  enum class Kind : std::uint8_t {
    automaton,  ///< the texts of `dfa`
    counted,    ///< JSON strings of `least` to `most` characters; `dfa` is that of all strings
    names,      ///< one of `names`, quoted
    key,        ///< the name of a property: one of `names` that the object still lacks, or (where
                ///< `dfa` is not empty) another string that `dfa` accepts, quotes included
  };
  Kind kind = Kind::automaton;
  std::shared_ptr<const ByteDfa> dfa{};
  std::shared_ptr<const Names> names{};
  std::uint32_t least = 0, most = unbounded;
};

/// Objects: which properties may come next. Indices are those of the sorted names.
struct Object {
  std::uint32_t terminal = 0;        // of the names, a key
  std::vector<std::uint32_t> rules;  // of the values; `no_rule`: must not occur
  std::vector<bool> required;
  std::vector<std::uint32_t> place;          // in the schema's order
  std::vector<std::uint32_t> other_rules;    // of the values of other properties, by the dfa's tag
  std::vector<std::uint32_t> at_place;       // place -> index
  std::vector<std::uint32_t> next_required;  // place -> the first required place from there on
  std::vector<std::uint32_t> allowed_from;   // place -> how many may occur from there on
  std::uint32_t required_count = 0;
  bool others = false;  // may there be other properties?
  std::uint32_t least = 0, most = unbounded;
  bool ordered = false;
  bool distinct_others = false;  // other names must be told apart, as they are counted

  static constexpr std::uint32_t no_rule = unbounded;
};

struct Array {
  std::vector<std::uint32_t> prefix;      // rules of the first items
  std::uint32_t items = Object::no_rule;  // rule of the others; none: there are no others
  std::uint32_t least = 0, most = unbounded;
};

struct Op {
  enum class Code : std::uint8_t {
    terminal,     ///< read terminal `a`, go on at `next`
    call,         ///< rule `a`, then `next`
    split,        ///< any of targets[a] ... targets[b - 1]
    loop,         ///< `next` after a to b rounds of `body`, a call that goes on here
    finish,       ///< the end of the rule
    key,          ///< read a name of object `a`, go on at `next`
    value,        ///< the value that belongs to the name, then `next`
    object_ends,  ///< go on at `next` if object `a` may end
    object_goes_on,
    item,  ///< an item of array `a`, then `next`
    array_ends,
    array_goes_on,
  };
  Code code;
  std::uint32_t a = 0, b = 0;
  std::uint32_t next = 0;
  std::uint32_t body = 0;
};

/// Immutable once finished.
class Program {
 public:
  std::vector<Terminal> terminals;
  std::vector<Op> ops;
  std::vector<std::uint32_t> targets;
  std::vector<std::uint32_t> rules;  // the first op of each
  std::vector<Object> objects;
  std::vector<Array> arrays;
  std::vector<bool> productive;  // per op: the end of its rule can be reached
  std::uint32_t root = 0;        // a rule

  std::uint32_t add(const Op& op) {
    ops.push_back(op);
    return static_cast<std::uint32_t>(ops.size() - 1);
  }
  std::uint32_t add(Terminal terminal) {
    terminals.push_back(std::move(terminal));
    return static_cast<std::uint32_t>(terminals.size() - 1);
  }
  std::uint32_t add(ByteDfa dfa) {
    return add(Terminal{.dfa = std::make_shared<const ByteDfa>(std::move(dfa))});
  }
  std::uint32_t add_split(const std::vector<std::uint32_t>& branches) {
    const auto first = static_cast<std::uint32_t>(targets.size());
    targets.insert(targets.end(), branches.begin(), branches.end());
    return add(
        Op{.code = Op::Code::split, .a = first, .b = static_cast<std::uint32_t>(targets.size())});
  }
  /// A rule whose program is still missing.
  std::uint32_t add_rule() {
    rules.push_back(unbounded);
    return static_cast<std::uint32_t>(rules.size() - 1);
  }

  [[nodiscard]] bool rule_productive(std::uint32_t rule) const noexcept {
    return rule != Object::no_rule && productive[rules[rule]];
  }

  /// Finds out which ways lead to an end, and closes the others. Call once, when all is there.
  /// False if the root has no text.
  [[nodiscard]] bool finish() {
    productive.assign(ops.size(), false);
    // A way that gains an end may give one to those before it.
    std::vector<std::vector<std::uint32_t>> users(ops.size());
    const auto uses = [&](std::uint32_t user, std::uint32_t used) { users[used].push_back(user); };
    const auto uses_rule = [&](std::uint32_t user, std::uint32_t rule) {
      if (rule != Object::no_rule) uses(user, rules[rule]);
    };
    std::vector<std::uint32_t> todo;
    for (std::uint32_t pc = static_cast<std::uint32_t>(ops.size()); pc-- > 0;) {
      todo.push_back(pc);
      const Op& op = ops[pc];
      if (op.code == Op::Code::split) {
        for (std::uint32_t i = op.a; i < op.b; ++i) uses(pc, targets[i]);
        continue;
      }
      if (op.code == Op::Code::finish) continue;
      uses(pc, op.next);
      if (op.code == Op::Code::call) uses_rule(pc, op.a);
      if (op.code == Op::Code::loop) uses_rule(pc, ops[op.body].a);
      if (op.code == Op::Code::object_goes_on || op.code == Op::Code::object_ends) {
        for (const std::uint32_t rule : objects[op.a].rules) uses_rule(pc, rule);
        for (const std::uint32_t rule : objects[op.a].other_rules) uses_rule(pc, rule);
      }
      if (op.code == Op::Code::array_goes_on || op.code == Op::Code::array_ends) {
        for (const std::uint32_t rule : arrays[op.a].prefix) uses_rule(pc, rule);
        uses_rule(pc, arrays[op.a].items);
      }
    }
    while (!todo.empty()) {
      const std::uint32_t pc = todo.back();
      todo.pop_back();
      if (productive[pc] || !leads_on(ops[pc])) continue;
      productive[pc] = true;
      todo.insert(todo.end(), users[pc].begin(), users[pc].end());
    }
    for (Object& object : objects) close(object);
    for (Array& array : arrays) close(array);
    return rule_productive(root);
  }

 private:
  [[nodiscard]] bool leads_on(const Op& op) const {
    switch (op.code) {
      case Op::Code::finish:
        return true;
      case Op::Code::terminal: {
        const Terminal& t = terminals[op.a];
        const bool some = t.kind == Terminal::Kind::names     ? !t.names->texts.empty()
                          : t.kind == Terminal::Kind::counted ? t.least <= t.most
                                                              : !t.dfa->empty();
        return some && productive[op.next];
      }
      case Op::Code::call:
        return rule_productive(op.a) && productive[op.next];
      case Op::Code::split:
        return std::any_of(targets.begin() + op.a, targets.begin() + op.b,
                           [&](std::uint32_t target) { return productive[target]; });
      case Op::Code::loop:
        return productive[op.next] && (op.a == 0 || rule_productive(ops[op.body].a));
      case Op::Code::object_ends:
        return productive[op.next] && feasible(objects[op.a]);
      case Op::Code::object_goes_on:
        return productive[op.next] && feasible(objects[op.a]) && objects[op.a].most > 0 &&
               any_property(objects[op.a]);
      case Op::Code::array_ends:
        return productive[op.next] && feasible(arrays[op.a]);
      case Op::Code::array_goes_on:
        return productive[op.next] && feasible(arrays[op.a]) && longest(arrays[op.a]) > 0;
      default:  // key, value, item: what follows them asks
        return productive[op.next];
    }
  }

  [[nodiscard]] bool any_property(const Object& o) const {
    const auto fine = [&](std::uint32_t rule) { return rule_productive(rule); };
    return std::any_of(o.rules.begin(), o.rules.end(), fine) ||
           std::any_of(o.other_rules.begin(), o.other_rules.end(), fine);
  }

  [[nodiscard]] bool feasible(const Object& o) const {
    std::uint32_t allowed = 0;
    std::uint32_t required = 0;
    for (std::size_t i = 0; i < o.rules.size(); ++i) {
      const bool fine = rule_productive(o.rules[i]);
      if (o.required[i] && !fine) return false;
      allowed += fine;
      required += o.required[i];
    }
    const bool others = std::any_of(o.other_rules.begin(), o.other_rules.end(),
                                    [&](std::uint32_t rule) { return rule_productive(rule); });
    return required <= o.most && o.least <= o.most && (o.least <= allowed || others);
  }

  /// How many items there can be.
  [[nodiscard]] std::uint32_t longest(const Array& a) const {
    for (std::size_t i = 0; i < a.prefix.size() && i < a.most; ++i)
      if (!rule_productive(a.prefix[i])) return static_cast<std::uint32_t>(i);
    return rule_productive(a.items)
               ? a.most
               : (std::min)(a.most, static_cast<std::uint32_t>(a.prefix.size()));
  }
  [[nodiscard]] bool feasible(const Array& a) const { return a.least <= longest(a); }

  // What has no value must not be named.
  void close(Object& o) {
    for (std::uint32_t& rule : o.rules)
      if (!rule_productive(rule)) rule = Object::no_rule;
    for (std::uint32_t& rule : o.other_rules)
      if (!rule_productive(rule)) rule = Object::no_rule;
    o.required_count =
        static_cast<std::uint32_t>(std::count(o.required.begin(), o.required.end(), true));
    o.others = std::any_of(o.other_rules.begin(), o.other_rules.end(),
                           [](std::uint32_t rule) { return rule != Object::no_rule; });
    const auto n = static_cast<std::uint32_t>(o.rules.size());
    o.next_required.assign(n + 1, n);
    o.allowed_from.assign(n + 1, 0);
    o.at_place.assign(n, 0);
    for (std::uint32_t i = 0; i < n; ++i) o.at_place[o.place[i]] = i;
    for (std::uint32_t p = n; p-- > 0;) {
      const std::uint32_t i = o.at_place[p];
      o.next_required[p] = o.required[i] ? p : o.next_required[p + 1];
      o.allowed_from[p] = o.allowed_from[p + 1] + (o.rules[i] != Object::no_rule);
    }
    Terminal& key = terminals[o.terminal];
    if (!key.dfa->empty())
      key.dfa = std::make_shared<const ByteDfa>(key.dfa->retagged([&](std::int32_t tag) {
        return o.other_rules[static_cast<std::size_t>(tag)] == Object::no_rule
                   ? ByteDfa::not_accepting
                   : tag;
      }));
  }

  void close(Array& a) { a.most = longest(a); }
};

}  // namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA
