// SPDX-License-Identifier: Apache-2.0
// GBNF, the notation of llama.cpp: rules of literals, sets, references, groups and repetitions over
// characters.
#pragma once

#include <rwkv/grammar/characters.hpp>
#include <rwkv/grammar/pattern.hpp>
#include <rwkv/grammar/program.hpp>

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA {

/// Reads a grammar and compiles it. Throws Error: "<source>: line <n>: ..."
class GbnfCompiler {
 public:
  GbnfCompiler(std::string_view text, const std::string& source) : text_(text), source_(source) {}

  [[nodiscard]] std::shared_ptr<const Program> run() {
    parse();
    order();
    program_.root = rule_of(root_);
    while (!pending_.empty()) {
      const std::uint32_t rule = pending_.back();
      pending_.pop_back();
      const std::uint32_t end = program_.add(Op{.code = Op::Code::finish});
      program_.rules[program_rule_[rule]] = emit(definition_[rule], end);
    }
    if (!program_.finish())
      fail_with(ErrorCategory::argument, source_, ": no text satisfies this grammar");
    return std::make_shared<const Program>(std::move(program_));
  }

 private:
  static constexpr std::size_t none = static_cast<std::size_t>(-1);
  static constexpr std::size_t deepest = 250;  // bounds the recursion
  static constexpr std::size_t most_nodes = 1'000'000;
  static constexpr std::uint32_t most_repetitions = 1'000'000;
  static constexpr automata::detail::Limits limits{20'000, 2'000};

  struct Node {
    enum class Kind : std::uint8_t { characters, sequence, choice, repetition, reference };
    Kind kind;
    Characters set{};
    std::vector<std::size_t> children{};
    std::uint32_t least = 1, most = 1;  // repetition
    std::uint32_t rule = 0;             // reference
    bool regular = false;               // no rule that contains itself is reached
    bool nullable = false;              // may be empty
    std::size_t size = 1;               // NFA states, roughly
    std::size_t height = 1;  // through rules that are regular; within a rule alone otherwise
  };
  using Kind = Node::Kind;

  template <class... Why>
  [[noreturn]] void refuse(const Why&... why) const {
    fail_with(ErrorCategory::argument, source_, ": line ", line_, ": ", why...);
  }

  // Reading.

  void parse() {
    if (text_.starts_with("\xef\xbb\xbf")) at_ = 3;  // a byte order mark
    skip(true);
    while (at_ < text_.size()) {
      const std::string name = rule_name();
      if (name.empty()) refuse("a rule begins with its name");
      skip(false);
      if (text_.substr(at_, 3) != "::=") refuse("rule ", name, ": \"::=\" is missing");
      at_ += 3;
      skip(true);
      const std::uint32_t rule = number_of(name);
      if (definition_[rule] != none) refuse("rule ", name, " is defined twice");
      definition_[rule] = choice(false);
      skip(false);
      if (at_ < text_.size() && text_[at_] != '\n' && text_[at_] != '\r')
        refuse("rule ", name, ": '", text_[at_], "' is not expected here");
      skip(true);
    }
    const auto root = numbers_.find("root");
    if (root == numbers_.end() || definition_[root->second] == none)
      fail_with(ErrorCategory::argument, source_, ": there is no rule \"root\"");
    root_ = root->second;
    for (const auto& [name, rule] : numbers_)
      if (definition_[rule] == none)
        fail_with(ErrorCategory::argument, source_, ": rule ", name, " is not defined");
  }

  // White space and comments; line ends too, if `lines`.
  void skip(bool lines) {
    for (; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (c == '#') {
        while (at_ < text_.size() && text_[at_] != '\n') ++at_;
        --at_;
      } else if (c == '\n') {
        if (!lines) return;
        ++line_;
      } else if (c != ' ' && c != '\t' && !(c == '\r' && lines)) {
        return;
      }
    }
  }

  std::string rule_name() {
    const std::size_t begin = at_;
    const auto fits = [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             c == '-' || c == '_';
    };
    while (at_ < text_.size() && fits(text_[at_])) ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }

  std::uint32_t number_of(const std::string& name) {
    const auto [found, added] =
        numbers_.emplace(name, static_cast<std::uint32_t>(definition_.size()));
    if (added) {
      definition_.push_back(none);
      names_.push_back(name);
    }
    return found->second;
  }

  std::size_t add(Node node) {
    if (nodes_.size() == most_nodes) refuse("the grammar is too large");
    nodes_.push_back(std::move(node));
    return nodes_.size() - 1;
  }

  // Within parentheses, alternatives may go over several lines.
  std::size_t choice(bool nested) {
    std::vector<std::size_t> branches;
    for (;;) {
      branches.push_back(sequence(nested));
      const std::size_t position = at_;
      const std::size_t line = line_;
      skip(true);  // no rule begins with a bar
      if (!take('|')) {
        at_ = position;
        line_ = line;
        break;
      }
      skip(true);
    }
    if (branches.size() == 1) return branches[0];
    return add({.kind = Kind::choice, .children = std::move(branches)});
  }

  std::size_t sequence(bool nested) {
    std::vector<std::size_t> parts;
    for (;;) {
      skip(nested);
      const std::size_t part = item(nested);
      if (part == none) break;
      parts.push_back(repetitions(part, nested));
    }
    if (parts.size() == 1) return parts[0];
    return add({.kind = Kind::sequence, .children = std::move(parts)});
  }

  std::size_t item(bool nested) {
    if (at_ == text_.size()) return none;
    const char c = text_[at_];
    opened_ = line_;
    if (c == '<' || c == '!')
      fail_with(ErrorCategory::unsupported, source_, ": line ", line_,
                ": tokens (<name>, <[id]>) are not supported: a grammar is about characters");
    if (c == '"') {
      ++at_;
      std::vector<std::size_t> parts;
      while (!take('"')) {
        const std::uint32_t character = one_character("this literal is never closed");
        parts.push_back(add({.kind = Kind::characters, .set = {character, character}}));
      }
      if (parts.size() == 1) return parts[0];
      return add({.kind = Kind::sequence, .children = std::move(parts)});
    }
    if (c == '[') {
      ++at_;
      return add({.kind = Kind::characters, .set = set()});
    }
    if (c == '.') {
      ++at_;
      return add({.kind = Kind::characters, .set = Characters::all()});
    }
    if (c == '(') {
      ++at_;
      if (++depth_ > deepest) refuse("groups are nested more than ", deepest, " deep");
      skip(true);
      const std::size_t inner = choice(true);
      --depth_;
      skip(true);
      if (!take(')')) refuse("a group is never closed");
      return inner;
    }
    const std::size_t position = at_;
    const std::string name = rule_name();
    if (name.empty()) return none;
    // On a line of its own this is the next rule.
    if (nested) return add({.kind = Kind::reference, .rule = number_of(name)});
    const std::size_t after = at_;
    const std::size_t line = line_;
    skip(false);
    const bool defined = text_.substr(at_, 3) == "::=";
    at_ = defined ? position : after;
    line_ = line;
    return defined ? none : add({.kind = Kind::reference, .rule = number_of(name)});
  }

  bool take(char c) noexcept {
    const bool yes = at_ < text_.size() && text_[at_] == c;
    if (yes) ++at_;
    return yes;
  }

  std::size_t repetitions(std::size_t inner, bool nested) {
    for (std::size_t times = 0;; ++times) {
      const std::size_t position = at_;
      const std::size_t line = line_;
      skip(nested);
      std::uint32_t least = 0;
      std::uint32_t most = unbounded;
      if (take('*')) {
      } else if (take('+')) {
        least = 1;
      } else if (take('?')) {
        most = 1;
      } else if (take('{')) {
        skip(nested);
        least = count();
        most = least;
        skip(nested);
        if (take(',')) {
          skip(nested);
          most = at_ < text_.size() && text_[at_] == '}' ? unbounded : count();
          skip(nested);
        }
        if (!take('}')) refuse("a repetition is written {3}, {2,} or {2,5}");
        if (most < least) refuse("at least ", least, " but at most ", most, " times");
      } else {
        at_ = position;
        line_ = line;
        return inner;
      }
      if (times == deepest) refuse("more than ", deepest, " repetitions of repetitions");
      inner = add({.kind = Kind::repetition, .children = {inner}, .least = least, .most = most});
    }
  }

  std::uint32_t count() {
    std::uint32_t value = 0;
    const std::size_t begin = at_;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      value = value * 10 + static_cast<std::uint32_t>(text_[at_] - '0');
      if (value > most_repetitions) refuse("more than ", most_repetitions, " repetitions");
    }
    if (at_ == begin) refuse("a repetition is written {3}, {2,} or {2,5}");
    return value;
  }

  std::uint32_t one_character(const char* unclosed) {
    if (at_ == text_.size()) {
      line_ = opened_;
      refuse(unclosed);
    }
    const auto lead = static_cast<unsigned char>(text_[at_++]);
    if (lead == '\n') ++line_;
    if (lead == '\\') return escape();
    if (lead < 0x80) return lead;
    const unsigned more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc2 ? 1 : 0;
    std::uint32_t c = more == 3 ? lead & 7u : more == 2 ? lead & 15u : lead & 31u;
    bool good = more > 0 && lead < 0xf5;
    for (unsigned i = 0; good && i < more; ++i) {
      good = at_ < text_.size() && (static_cast<unsigned char>(text_[at_]) & 0xc0u) == 0x80u;
      if (good) c = c << 6 | (static_cast<unsigned char>(text_[at_++]) & 0x3fu);
    }
    if (!good || Utf8(c).size != more + 1) refuse("the grammar is not UTF-8");
    return checked(c);
  }

  std::uint32_t checked(std::uint32_t c) const {
    if (c > Characters::last_character || (c >= 0xd800 && c <= 0xdfff))
      refuse("no character has the number ", c);
    return c;
  }

  std::uint32_t escape() {
    const char c = at_ < text_.size() ? text_[at_++] : '\0';
    const auto hex = [&](int digits) {
      std::uint32_t value = 0;
      for (int i = 0; i < digits; ++i) {
        const char d = at_ < text_.size() ? text_[at_++] : '\0';
        const std::size_t digit = std::string_view("0123456789abcdef")
                                      .find(d >= 'A' && d <= 'F' ? static_cast<char>(d + 32) : d);
        if (digit == std::string_view::npos)
          refuse("\\", c, " needs ", digits, " hexadecimal digits");
        value = value << 4 | static_cast<std::uint32_t>(digit);
      }
      return checked(value);
    };
    switch (c) {
      case 'x':
        return hex(2);
      case 'u':
        return hex(4);
      case 'U':
        return hex(8);
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 't':
        return '\t';
      case '\\':
      case '"':
      case '[':
      case ']':
      case '-':
      case '^':
        return static_cast<unsigned char>(c);
      default:
        refuse(
            "unknown escape; known are \\n \\r \\t \\\\ \\\" \\[ \\] \\- \\^ \\xHH \\uHHHH "
            "\\UHHHHHHHH");
    }
  }

  Characters set() {
    const bool negated = take('^');
    Characters out;
    while (!take(']')) {
      const std::uint32_t first = one_character("a set is never closed");
      std::uint32_t last = first;
      if (at_ + 1 < text_.size() && text_[at_] == '-' && text_[at_ + 1] != ']') {
        ++at_;
        last = one_character("a set is never closed");
        if (last < first) refuse("a range goes from one character up to another");
      }
      out.add(first, last);
    }
    return negated ? out.complement() : out;
  }

  // What is regular, and left recursion.

  // Rules in the order in which they depend on each other: Tarjan's components, without recursion.
  void order() {
    const std::size_t n = definition_.size();
    std::vector<std::vector<std::uint32_t>> uses(n);
    for (std::uint32_t rule = 0; rule < n; ++rule) collect(definition_[rule], uses[rule]);
    std::vector<std::vector<std::uint32_t>> used_by(n);
    for (std::uint32_t rule = 0; rule < n; ++rule)
      for (const std::uint32_t used : uses[rule]) used_by[used].push_back(rule);
    nullable_.assign(n, false);
    std::vector<std::uint32_t> index(n, 0);
    std::vector<std::uint32_t> low(n, 0);
    std::vector<bool> open(n, false);
    std::vector<std::uint32_t> stack;
    struct Visit {
      std::uint32_t rule;
      std::size_t next;
    };
    std::vector<Visit> visits;
    std::uint32_t counter = 0;
    recursive_.assign(n, false);
    for (std::uint32_t first = 0; first < n; ++first) {
      if (index[first] != 0) continue;
      const auto open_rule = [&](std::uint32_t rule) {
        index[rule] = low[rule] = ++counter;
        open[rule] = true;
        stack.push_back(rule);
        visits.push_back({rule, 0});
      };
      open_rule(first);
      while (!visits.empty()) {
        const std::uint32_t rule = visits.back().rule;
        if (visits.back().next < uses[rule].size()) {
          const std::uint32_t used = uses[rule][visits.back().next++];
          if (index[used] == 0)
            open_rule(used);
          else if (open[used])
            low[rule] = (std::min)(low[rule], index[used]);
          continue;
        }
        visits.pop_back();
        if (!visits.empty())
          low[visits.back().rule] = (std::min)(low[visits.back().rule], low[rule]);
        if (low[rule] != index[rule]) continue;
        std::vector<std::uint32_t> component;
        for (;;) {
          const std::uint32_t member = stack.back();
          stack.pop_back();
          open[member] = false;
          component.push_back(member);
          if (member == rule) break;
        }
        const bool loops = component.size() > 1 || std::find(uses[rule].begin(), uses[rule].end(),
                                                             rule) != uses[rule].end();
        for (const std::uint32_t member : component) recursive_[member] = loops;
        settle(std::move(component), used_by);
      }
    }
    refuse_left_recursion();
  }

  void collect(std::size_t node, std::vector<std::uint32_t>& out) const {
    const Node& n = nodes_[node];
    if (n.kind == Kind::reference) out.push_back(n.rule);
    for (const std::size_t child : n.children) collect(child, out);
  }

  // All that these rules use, but for each other, is settled.
  void settle(std::vector<std::uint32_t> component,
              const std::vector<std::vector<std::uint32_t>>& used_by) {
    while (!component.empty()) {
      const std::uint32_t rule = component.back();
      component.pop_back();
      settle(definition_[rule]);
      if (!nodes_[definition_[rule]].nullable || nullable_[rule]) continue;
      nullable_[rule] = true;
      // Those that come later will be settled anyway.
      for (const std::uint32_t user : used_by[rule])
        if (recursive_[user]) component.push_back(user);
    }
  }

  void settle(std::size_t node) {
    Node& n = nodes_[node];
    for (const std::size_t child : n.children) settle(child);
    constexpr std::size_t huge = std::size_t{1} << 24;
    const auto bounded = [&](std::size_t size) { return (std::min)(size, huge); };
    const auto all = [&](auto member) {
      return std::all_of(n.children.begin(), n.children.end(),
                         [&](std::size_t child) { return nodes_[child].*member; });
    };
    n.regular = all(&Node::regular);
    n.size = 1;
    n.height = 1;
    for (const std::size_t child : n.children) {
      n.size = bounded(n.size + nodes_[child].size);
      n.height = (std::max)(n.height, nodes_[child].height + 1);
    }
    switch (n.kind) {
      case Kind::characters:
        n.regular = true;
        n.nullable = false;
        n.size = n.set.ranges().empty() ? 1 : 4 * n.set.ranges().size();
        break;
      case Kind::sequence:
        n.nullable = all(&Node::nullable);
        break;
      case Kind::choice:
        n.nullable = std::any_of(n.children.begin(), n.children.end(),
                                 [&](std::size_t child) { return nodes_[child].nullable; });
        break;
      case Kind::repetition: {
        n.nullable = n.least == 0 || nodes_[n.children[0]].nullable;
        const std::uint32_t rounds = n.most == unbounded ? n.least + 1 : n.most;
        n.size = bounded(nodes_[n.children[0]].size + 1);
        n.size = rounds > huge / n.size ? huge : n.size * (std::max)(rounds, std::uint32_t{1});
        break;
      }
      case Kind::reference:
        n.nullable = nullable_[n.rule];
        n.regular = !recursive_[n.rule] && nodes_[definition_[n.rule]].regular;
        n.size = recursive_[n.rule] ? 1 : nodes_[definition_[n.rule]].size;
        n.height = n.regular ? nodes_[definition_[n.rule]].height + 1 : 1;
        break;
    }
    // Too much for one automaton: a program.
    if (n.size > limits.nfa_states || n.height > 4 * deepest) n.regular = false;
  }

  // A rule must not reach itself without having read anything.
  void refuse_left_recursion() {
    const std::size_t n = definition_.size();
    std::vector<std::vector<std::uint32_t>> first(n);
    for (std::uint32_t rule = 0; rule < n; ++rule) (void)beginnings(definition_[rule], first[rule]);
    std::vector<std::uint8_t> colour(n, 0);
    struct Visit {
      std::uint32_t rule;
      std::size_t next;
    };
    for (std::uint32_t start = 0; start < n; ++start) {
      if (colour[start] != 0) continue;
      std::vector<Visit> visits{{start, 0}};
      colour[start] = 1;
      while (!visits.empty()) {
        Visit& visit = visits.back();
        if (visit.next == first[visit.rule].size()) {
          colour[visit.rule] = 2;
          visits.pop_back();
          continue;
        }
        const std::uint32_t rule = first[visit.rule][visit.next++];
        if (colour[rule] == 1)
          fail_with(ErrorCategory::argument, source_, ": rule ", names_[rule],
                    " is left-recursive: it can begin with itself; write a repetition instead");
        if (colour[rule] == 0) {
          colour[rule] = 1;
          visits.push_back({rule, 0});
        }
      }
    }
  }

  // The rules that `node` may begin with. True if it may be empty.
  bool beginnings(std::size_t node, std::vector<std::uint32_t>& out) const {
    const Node& n = nodes_[node];
    switch (n.kind) {
      case Kind::characters:
        return false;
      case Kind::reference:
        out.push_back(n.rule);
        return nullable_[n.rule];
      case Kind::sequence:
        for (const std::size_t child : n.children)
          if (!beginnings(child, out)) return false;
        return true;
      default:
        for (const std::size_t child : n.children) (void)beginnings(child, out);
        return n.nullable;
    }
  }

  // Compiling.

  std::uint32_t rule_of(std::uint32_t rule) {
    program_rule_.resize(definition_.size(), unbounded);
    if (program_rule_[rule] == unbounded) {
      program_rule_[rule] = program_.add_rule();
      pending_.push_back(rule);
    }
    return program_rule_[rule];
  }

  // The first op of what reads `node` and goes on at `next`.
  std::uint32_t emit(std::size_t node, std::uint32_t next) {
    if (program_.ops.size() > most_nodes)
      fail_with(ErrorCategory::argument, source_, ": the grammar is too large");
    if (nodes_[node].regular) {
      const std::uint32_t terminal = terminal_of(node);
      if (terminal != unbounded)
        return program_.add(Op{.code = Op::Code::terminal, .a = terminal, .next = next});
    }
    const Node n = nodes_[node];
    switch (n.kind) {
      case Kind::sequence: {
        // Neighbours that are regular make one terminal.
        for (std::size_t i = n.children.size(); i > 0;) {
          std::size_t begin = i - 1;
          std::size_t size = nodes_[n.children[begin]].size;
          if (nodes_[n.children[begin]].regular)
            while (begin > 0 && nodes_[n.children[begin - 1]].regular &&
                   size + nodes_[n.children[begin - 1]].size < limits.nfa_states / 4)
              size += nodes_[n.children[--begin]].size;
          if (begin + 1 < i) {
            Node part{.kind = Kind::sequence};
            part.children.assign(n.children.begin() + static_cast<std::ptrdiff_t>(begin),
                                 n.children.begin() + static_cast<std::ptrdiff_t>(i));
            const std::size_t joined = add(std::move(part));
            const std::uint32_t terminal = terminal_of(joined);
            if (terminal != unbounded) {
              next = program_.add(Op{.code = Op::Code::terminal, .a = terminal, .next = next});
              i = begin;
              continue;
            }
          }
          next = emit(n.children[--i], next);
        }
        return next;
      }
      case Kind::choice: {
        std::vector<std::uint32_t> branches;
        for (const std::size_t child : n.children) branches.push_back(emit(child, next));
        return program_.add_split(branches);
      }
      case Kind::repetition: {
        if (n.most == 0) return next;
        const std::uint32_t rule = program_.add_rule();
        const std::uint32_t end = program_.add(Op{.code = Op::Code::finish});
        const std::uint32_t inner = emit(n.children[0], end);
        program_.rules[rule] = inner;
        // In a rule of its own, whose rounds are counted.
        const std::uint32_t counted = program_.add_rule();
        const std::uint32_t done = program_.add(Op{.code = Op::Code::finish});
        const std::uint32_t call = program_.add(Op{.code = Op::Code::call, .a = rule});
        const std::uint32_t loop =
            program_.add(Op{.code = Op::Code::loop,
                            .a = nodes_[n.children[0]].nullable ? 0 : n.least,
                            .b = n.most,
                            .next = done,
                            .body = call});
        program_.ops[call].next = loop;
        program_.rules[counted] = loop;
        return program_.add(Op{.code = Op::Code::call, .a = counted, .next = next});
      }
      case Kind::reference:
        return program_.add(Op{.code = Op::Code::call, .a = rule_of(n.rule), .next = next});
      default:
        return program_.add(Op{.code = Op::Code::terminal, .a = terminal_of(node), .next = next});
    }
  }

  // `unbounded` if its automaton is too large.
  std::uint32_t terminal_of(std::size_t node) {
    if (const auto found = terminals_.find(node); found != terminals_.end()) return found->second;
    Expressions e(Expressions::Form::utf8);
    const std::size_t root = expression(node, e);
    std::uint32_t terminal = unbounded;
    if (root != none) {
      std::string why;
      if (const auto dfa = automata::detail::minimal_dfa(e.nodes(), root, limits, why))
        terminal = program_.add(ByteDfa(*dfa));
    }
    terminals_.emplace(node, terminal);
    return terminal;
  }

  std::size_t expression(std::size_t node, Expressions& e) {
    if (e.size() > 4 * limits.nfa_states) return none;
    const Node& n = nodes_[node];
    if (n.kind == Kind::characters) return e.characters(n.set);
    if (n.kind == Kind::reference) return expression(definition_[n.rule], e);
    std::vector<std::size_t> children;
    for (const std::size_t child : n.children) {
      children.push_back(expression(child, e));
      if (children.back() == none) return none;
    }
    switch (n.kind) {
      case Kind::sequence:
        return e.sequence(std::move(children));
      case Kind::choice:
        return e.choice(std::move(children));
      default:
        return e.repeat(children[0], n.least, n.most == unbounded ? Expression::unbounded : n.most);
    }
  }

  std::string_view text_;
  const std::string& source_;
  std::size_t at_ = 0;
  std::size_t line_ = 1;
  std::size_t opened_ = 1;  // the line in which a literal or set begins
  std::size_t depth_ = 0;
  std::vector<Node> nodes_;
  std::map<std::string, std::uint32_t> numbers_;
  std::vector<std::string> names_;       // by number
  std::vector<std::size_t> definition_;  // by number
  std::vector<bool> recursive_, nullable_;
  std::uint32_t root_ = 0;
  Program program_;
  std::vector<std::uint32_t> program_rule_;
  std::vector<std::uint32_t> pending_;
  std::map<std::size_t, std::uint32_t> terminals_;
};

}  // namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA
