// SPDX-License-Identifier: Apache-2.0
// Which of the dictionaries in a pickle is the model.
#pragma once

#include <rwkv/io/name_schemes.hpp>
#include <rwkv/io/pickle.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail::pickle {

/// What was found.
struct StateDict {
  std::optional<Value> value;  ///< a dictionary, a list or a tuple; nothing if none holds tensors
  bool is_model = false;       ///< it has tensors with names of RWKV
  bool named = false;          ///< its tensors have names
};

/// Looks into everything that the pickle's value holds, level by level, each thing once.
class StateDictFinder {
 public:
  explicit StateDictFinder(const Machine& machine)
      : machine_(machine),
        seen_dicts_(machine.dictionaries()),
        seen_tuples_(machine.tuples().size()),
        of_model_(machine.size() + 1, unknown) {}

  [[nodiscard]] StateDict find(const Value& root) {
    visit(root, {});
    for (std::size_t i = 0; i < queue_.size(); ++i) {
      const Place place = queue_[i];
      if (const auto* tuple = std::get_if<Tuple>(&place.value)) {
        std::size_t tensors = 0;
        for (const Value& value : machine_.tuples()[*tuple]) {
          visit(value, place);
          tensors += holds(value);
        }
        if (!place.arguments) rate(place, 0, tensors, false);
        continue;
      }
      const Dict dict = std::get<Dict>(place.value);
      rate(dict, place);
      for (const auto& [key, value] : machine_.items(dict)) visit(value, below(place, key, dict));
    }
    return best_;
  }

 private:
  // A value, and what the keys on the way to it say.
  struct Place {
    Value value{};
    bool training = false;   // an optimiser's
    bool average = false;    // running averages of the weights
    bool customary = false;  // the last key is one that training programs use for the weights
    bool arguments = false;  // what an object is made of
  };

  // What the best dictionary is better by, the most important first.
  struct Rating {
    int kind = 0;
    std::size_t tensors = 0;
    bool customary = false;

    [[nodiscard]] bool better_than(const Rating& other) const noexcept {
      if (kind != other.kind) return kind > other.kind;
      if (tensors != other.tensors) return tensors > other.tensors;
      return customary && !other.customary;
    }
  };

  [[nodiscard]] Place below(Place place, const Value& key, Dict dict) const {
    place.customary = false;
    place.arguments = machine_.is_object(dict);
    const auto* name = std::get_if<std::string_view>(&key);
    constexpr std::size_t longest = 64;  // a key that says something is short
    if (name == nullptr || name->size() > longest) return place;
    place.training |= is_of_training(*name);
    place.average |= is_average(std::string(*name) + '.');
    for (const std::string_view known : {"state_dict", "model_state_dict", "model", "module"})
      place.customary |= *name == known;
    return place;
  }

  void visit(const Value& value, Place place) {
    if (const auto* dict = std::get_if<Dict>(&value)) {
      if (seen_dicts_[dict->index]) return;
      seen_dicts_[dict->index] = true;
    } else if (const auto* tuple = std::get_if<Tuple>(&value);
               tuple != nullptr && tuple->count > 0) {
      if (seen_tuples_[tuple->begin]) return;
      seen_tuples_[tuple->begin] = true;
    } else {
      return;
    }
    place.value = value;
    queue_.push_back(place);
  }

  [[nodiscard]] static bool holds(const Value& value) noexcept {
    return std::holds_alternative<TensorRef>(value);
  }

  void rate(Dict dict, const Place& place) {
    std::size_t named = 0;
    std::size_t unnamed = 0;  // of a list, or by number
    std::size_t known = 0;
    for (const auto& [key, value] : machine_.items(dict)) {
      if (!holds(value)) continue;
      const auto* name = std::get_if<std::string_view>(&key);
      ++(name != nullptr ? named : unnamed);
      known += name != nullptr && is_of_model(*name);
    }
    rate(place, known, named > 0 ? named : unnamed, named > 0);
  }

  void rate(const Place& place, std::size_t known, std::size_t tensors, bool named) {
    if (tensors == 0) return;
    const bool model = known > 0 && !place.training;
    const int kind = model ? (place.average ? 2 : 3) : place.training ? 0 : 1;
    const Rating rating{kind, model ? known : tensors, place.customary};
    if (best_.value && !rating.better_than(best_rating_)) return;
    best_ = {place.value, model, named};
    best_rating_ = rating;
  }

  // A name that the pickle repeats by reference is looked at once.
  bool is_of_model(std::string_view name) {
    std::int8_t& verdict = of_model_[machine_.position(name)];
    if (verdict == unknown) {
      const auto known = known_name(name);
      const bool weight =
          (known && known->of_block) || name.find(".lora_") != std::string_view::npos;
      verdict = weight && !is_of_training(name);
    }
    return verdict != 0;
  }

  static constexpr std::int8_t unknown = 2;

  const Machine& machine_;
  std::vector<bool> seen_dicts_;
  std::vector<bool> seen_tuples_;  // by their first element
  std::vector<Place> queue_;
  std::vector<std::int8_t> of_model_;  // by the name's place in the pickle
  StateDict best_;
  Rating best_rating_;
};

/// The dictionary in `root` with the most tensors that have names of RWKV, whatever it is under;
/// weights before their running averages, and these before anything else. Among equals the one
/// under a customary key (`state_dict`, `model_state_dict`, `model`, `module`), then the outermost,
/// then the first. Without such names, the dictionary, list or tuple with the most tensors. Time
/// O(pickle).
[[nodiscard]] inline StateDict find_state_dict(const Machine& machine, const Value& root) {
  return StateDictFinder(machine).find(root);
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail::pickle
