-- The few XML documents of the S3 API, and reading the two that clients send.

local xml = {}

local ESCAPES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["\r"] = "&#13;" }
local NAMED = { amp = "&", lt = "<", gt = ">", quot = '"', apos = "'" }
local HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'

--- Escape text for an element.
function xml.escape(text)
  return (text:gsub('[&<>"\r]', ESCAPES))
end

--- Undo what a client escaped.
function xml.unescape(text)
  return (text:gsub("&(#?)(x?)(%w+);", function(numeric, hexadecimal, name)
    if numeric == "" then return NAMED[hexadecimal .. name] end
    return string.char(tonumber(name, hexadecimal == "x" and 16 or 10))
  end))
end

--- One element; `content` is already escaped.
function xml.element(name, content)
  return "<" .. name .. ">" .. content .. "</" .. name .. ">"
end

--- One element of text.
function xml.text(name, value)
  return xml.element(name, xml.escape(tostring(value)))
end

--- Answer with a document and end the request.
function xml.send(status, document)
  local body = HEAD .. document
  ngx.status = status
  ngx.header.content_type = "application/xml"
  ngx.header.content_length = #body
  if ngx.req.get_method() == "HEAD" then ngx.send_headers() else ngx.print(body) end
  return ngx.exit(status)
end

--- Answer with an S3 error document.
function xml.error(status, code, message)
  return xml.send(status, xml.element("Error", xml.text("Code", code) .. xml.text("Message", message or code) ..
    xml.text("Resource", ngx.var.uri) .. xml.text("RequestId", ngx.var.request_id)))
end

return xml
