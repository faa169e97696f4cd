#include "data/tokenizer/tokenizer_json.h"

#include <algorithm>
#include <string_view>

#include "core/error.h"
#include "data/tokenizer/json_fields.h"

namespace tessera::data {
namespace {

constexpr std::size_t kMaxAddedTokenBytes = 4096;

std::vector<AddedToken> read_added_tokens(const JsonFields& file) {
  std::vector<AddedToken> added;
  const Json* list = file.find("added_tokens");
  if (!list) return added;
  if (!list->is_array()) file.fail("added_tokens", "is " + shown(*list) + ", expected a list");
  for (std::size_t k = 0; k < list->size(); ++k) {
    const JsonFields fields((*list)[k], file.file(), "added_tokens[" + std::to_string(k) + "]");
    AddedToken token;
    token.content = fields.text("content");
    token.id = fields.id("id", kMaxTokenizerIds);
    token.special = fields.boolean("special", false);
    token.single_word = fields.boolean("single_word", false);
    token.lstrip = fields.boolean("lstrip", false);
    token.rstrip = fields.boolean("rstrip", false);
    token.normalized = fields.boolean("normalized", !token.special);
    if (token.content.empty())
      fields.fail("content", "is empty: a token without text is never found");
    if (token.content.size() > kMaxAddedTokenBytes)
      fields.fail("content", "has " + std::to_string(token.content.size()) + " bytes, at most " +
                                 std::to_string(kMaxAddedTokenBytes) + " are supported");
    added.push_back(std::move(token));
  }
  return added;
}

bool read_normalizer(const JsonFields& normalizer) {
  const std::string type = normalizer.text("type");
  if (type == "NFC") return true;
  if (type != "Sequence")
    normalizer.fail("type", "is \"" + type + "\", which is not supported (only NFC is)");
  const Json& steps = normalizer.need("normalizers");
  if (!steps.is_array()) normalizer.fail("normalizers", "is " + shown(steps) + ", expected a list");
  bool nfc = false;
  for (std::size_t k = 0; k < steps.size(); ++k)
    nfc |= read_normalizer(JsonFields(steps[k], normalizer.file(),
                                      "normalizer.normalizers[" + std::to_string(k) + "]"));
  return nfc;
}

SplitStep read_split(const JsonFields& step) {
  SplitStep split;
  const JsonFields pattern = step.fields("pattern");
  split.literal = pattern.find("Regex") == nullptr;
  split.pattern = pattern.text(split.literal ? "String" : "Regex");
  if (split.pattern.empty()) step.fail("pattern", "is empty");
  const std::string behavior = step.text("behavior");
  const bool invert = step.boolean("invert", false);
  split.only_matches = behavior == "Removed" && invert;
  // Isolated keeps matches and the text between them as pieces, inverted or not.
  if (behavior != "Isolated" && !split.only_matches)
    step.fail("behavior",
              "is \"" + behavior +
                  "\", which is not supported (only Isolated is, and Removed with invert)");
  return split;
}

void read_byte_level(const JsonFields& step, TokenizerJson& result) {
  if (!step.find("add_prefix_space")) step.fail("add_prefix_space", "is missing");
  result.add_prefix_space = step.boolean("add_prefix_space", false);
  result.use_regex = step.boolean("use_regex", true);
}

void read_pre_tokenizer(const JsonFields& file, TokenizerJson& result) {
  if (!file.find("pre_tokenizer"))
    file.fail("pre_tokenizer", "is missing: only byte-level tokenizers (ByteLevel) are supported");
  const JsonFields pre = file.fields("pre_tokenizer");
  const std::string type = pre.text("type");
  if (type == "ByteLevel") return read_byte_level(pre, result);
  if (type != "Sequence")
    pre.fail("type", "is \"" + type +
                         "\", which is not supported (ByteLevel is, alone or last in a " +
                         "Sequence)");
  const Json& steps = pre.need("pretokenizers");
  if (!steps.is_array() || steps.empty())
    pre.fail("pretokenizers", "is " + shown(steps) + ", expected a list that ends with ByteLevel");
  for (std::size_t k = 0; k < steps.size(); ++k) {
    const JsonFields step(steps[k], file.file(),
                          "pre_tokenizer.pretokenizers[" + std::to_string(k) + "]");
    const std::string kind = step.text("type");
    const bool last = k + 1 == steps.size();
    if (last != (kind == "ByteLevel"))
      step.fail("type", "is \"" + kind + "\", expected ByteLevel as the last step and only there");
    if (last) {
      read_byte_level(step, result);
    } else if (kind == "Split") {
      result.splits.push_back(read_split(step));
    } else if (kind == "Digits") {
      const bool each = step.boolean("individual_digits", false);
      result.splits.push_back({each ? "\\p{N}" : "\\p{N}+", false, false});
    } else {
      step.fail("type",
                "is \"" + kind + "\", which is not supported (Split, Digits and ByteLevel are)");
    }
  }
}

void check_decoder(const JsonFields& decoder) {
  const std::string type = decoder.text("type");
  if (type == "ByteLevel") return;
  if (type == "Sequence") {
    const Json& steps = decoder.need("decoders");
    if (steps.is_array() && steps.size() == 1)
      return check_decoder(JsonFields(steps[0], decoder.file(), "decoder.decoders[0]"));
  }
  decoder.fail("type", "is \"" + type + "\", which is not supported (only ByteLevel is)");
}

// "a b" or ["a", "b"]. Old files may begin with a "#version" line, which is none.
void read_merges(const JsonFields& model, TokenizerJson& result) {
  const Json& merges = model.need("merges");
  if (!merges.is_array()) model.fail("merges", "is " + shown(merges) + ", expected a list");
  result.merges.reserve(merges.size());
  for (std::size_t k = 0; k < merges.size(); ++k) {
    const Json& merge = merges[k];
    const std::string key = "merges[" + std::to_string(k) + "]";
    if (merge.is_string()) {
      const std::string& text = merge.get_ref<const std::string&>();
      if (text.starts_with("#version")) continue;
      const std::size_t blank = text.find(' ');
      if (blank == std::string::npos || text.find(' ', blank + 1) != std::string::npos)
        model.fail(key, "is " + shown(merge) + ", expected two tokens with one blank between them");
      result.merges.emplace_back(text.substr(0, blank), text.substr(blank + 1));
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      result.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
    } else {
      model.fail(key, "is " + shown(merge) + ", expected \"a b\" or [\"a\", \"b\"]");
    }
  }
}

void read_vocab(const JsonFields& model, TokenizerJson& result) {
  const JsonFields vocab = model.fields("vocab");
  result.vocab.reserve(vocab.json().size());
  for (const auto& [token, value] : vocab.json().items()) {
    std::int32_t id = 0;
    if (!read_id(value, kMaxTokenizerIds, id))
      model.fail("vocab[" + shown(Json(token)) + "]", "is " + shown(value) +
                                                          ", expected an integer from 0 to " +
                                                          std::to_string(kMaxTokenizerIds - 1));
    result.vocab.emplace_back(token, id);
  }
}

void read_model(const JsonFields& model, TokenizerJson& result) {
  const std::string type = model.text("type", "BPE");
  if (type != "BPE")
    model.fail("type", "is \"" + type + "\", which is not supported (only BPE is)");
  if (const Json* dropout = model.find("dropout");
      dropout && !(dropout->is_number() && dropout->get<double>() == 0))
    model.fail("dropout", "is " + shown(*dropout) + ", which is not supported: remove it (null)");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (!model.text(key, "").empty())
      model.fail(key,
                 "is " + shown(model.need(key)) + ", which is not supported in a byte-level model");
  result.has_unknown =
      !model.text("unk_token", "").empty() || model.boolean("byte_fallback", false);
  result.ignore_merges = model.boolean("ignore_merges", false);
  read_vocab(model, result);
  read_merges(model, result);
}

}  // namespace

TokenizerJson read_tokenizer_json(const Json& json, const std::string& name) {
  const JsonFields file(json, name, "");
  TokenizerJson result;
  result.added = read_added_tokens(file);
  if (file.find("normalizer")) result.nfc = read_normalizer(file.fields("normalizer"));
  read_pre_tokenizer(file, result);
  if (file.find("decoder")) check_decoder(file.fields("decoder"));
  read_model(file.fields("model"), result);
  return result;
}

}  // namespace tessera::data
