// SPDX-License-Identifier: Apache-2.0
#include "devices/mmds/http_request.h"

#include <boost/asio/buffer.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

namespace hum {

namespace http = boost::beast::http;

const std::string* HttpRequest::field(std::string_view name) const {
  for (const auto& [own, value] : fields)
    if (boost::beast::iequals({own.data(), own.size()}, {name.data(), name.size()})) return &value;
  return nullptr;
}

HttpReading read_http_request(std::string_view text) {
  using enum HttpReading::Outcome;
  text = text.substr(0, most_request_bytes);
  http::request_parser<http::string_body> parser;
  parser.eager(true);
  parser.header_limit(most_request_bytes);
  parser.body_limit(most_request_bytes);
  HttpReading reading;
  for (bool moves = true; !parser.is_done();) {
    const std::string_view rest = text.substr(reading.bytes);
    if (rest.empty() || !moves) return {.outcome = text.size() < most_request_bytes ? part : malformed};
    boost::system::error_code error;
    const std::size_t used = parser.put(boost::asio::buffer(rest), error);
    if (error && error != http::error::need_more) return {.outcome = malformed};
    moves = used != 0;
    reading.bytes += used;
  }
  const auto& message = parser.get();
  reading.outcome = whole;
  reading.request = {.method = std::string(message.method_string()),
                     .target = std::string(message.target()),
                     .is_http_1_0 = message.version() < 11,
                     .keep_alive = message.keep_alive(),
                     .fields = {}};
  for (const auto& field : message)
    reading.request.fields.emplace_back(std::string(field.name_string()), std::string(field.value()));
  return reading;
}

}  // namespace hum
