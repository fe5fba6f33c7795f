-- ListObjectsV2 (and its first version) over a folder tree.

local files = require "files"
local xml = require "xml"

local MAX_KEYS = 1000
-- Pages after the first reuse the sorted names for so long, instead of walking the tree for each page.
local SNAPSHOT_SECONDS = 5

local listing = {}
local snapshots = {}

local function sorted_keys(folder, is_first_page)
  local known = snapshots[folder]
  if not is_first_page and known and ngx.now() - known.taken < SNAPSHOT_SECONDS then return known.keys end
  local keys = {}
  files.walk(folder, "", keys)
  table.sort(keys)
  snapshots[folder] = { keys = keys, taken = ngx.now() }
  return keys
end

-- Index of the first key that is not below `bound`, or above it when `beyond`.
local function find(keys, bound, beyond)
  local low, high = 1, #keys + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if keys[middle] < bound or (beyond and keys[middle] == bound) then low = middle + 1 else high = middle end
  end
  return low
end

local function starts_with(text, prefix)
  return text ~= nil and text:sub(1, #prefix) == prefix
end

local function url_encode(text)
  return (ngx.escape_uri(text):gsub("%%2F", "/"):gsub("%%20", "+"))
end

-- A query argument without value is `true` in OpenResty; S3 reads it as empty.
local function argument(arguments, name)
  local value = arguments[name]
  if type(value) == "table" then value = value[1] end
  if value == nil or value == true then return "" end
  return value
end

local function entry(folder, key, encode)
  local size, modified = files.stat(folder .. key)
  if not size then return nil end
  return xml.element("Contents", xml.element("Key", encode(key)) ..
    xml.text("LastModified", os.date("!%Y-%m-%dT%H:%M:%S.000Z", modified)) ..
    xml.text("ETag", string.format('"%x-%x"', modified, size)) ..
    xml.text("Size", string.format("%d", size)) .. xml.text("StorageClass", "STANDARD"))
end

--- Answer a list request for the bucket in `folder`.
function listing.answer(bucket, folder, arguments)
  local is_v2 = arguments["list-type"] == "2"
  local prefix, delimiter = argument(arguments, "prefix"), argument(arguments, "delimiter")
  local limit = argument(arguments, "max-keys")
  limit = limit == "" and MAX_KEYS or tonumber(limit)
  if not limit or limit < 0 then return xml.error(400, "InvalidArgument") end
  limit = math.min(limit, MAX_KEYS)
  local token = argument(arguments, is_v2 and "continuation-token" or "marker")
  local start = token
  if is_v2 then
    start = token ~= "" and ngx.decode_base64(token) or argument(arguments, "start-after")
    if not start then return xml.error(400, "InvalidArgument", "The continuation token provided is incorrect") end
  end
  local is_encoded = arguments["encoding-type"] == "url"
  local encode = is_encoded and url_encode or xml.escape

  local keys = sorted_keys(folder, token == "")
  local at = start >= prefix and find(keys, start, start ~= "") or find(keys, prefix)
  if delimiter ~= "" and start:sub(-#delimiter) == delimiter and #start > #prefix and starts_with(start, prefix) then
    -- The last page ended with this common prefix: what lies under it is behind us.
    while starts_with(keys[at], start) do at = at + 1 end
  end

  local contents, prefixes, count, last = {}, {}, 0, nil
  local is_truncated = false
  while starts_with(keys[at], prefix) and limit > 0 do
    if count == limit then
      is_truncated = true
      break
    end
    local key = keys[at]
    local _, stop = nil, nil
    if delimiter ~= "" then _, stop = key:find(delimiter, #prefix + 1, true) end
    if stop then
      last = key:sub(1, stop)
      prefixes[#prefixes + 1] = xml.element("CommonPrefixes", xml.element("Prefix", encode(last)))
      count = count + 1
      while starts_with(keys[at], last) do at = at + 1 end
    else
      local found = entry(folder, key, encode)
      if found then
        contents[#contents + 1] = found
        count = count + 1
        last = key
      end
      at = at + 1
    end
  end

  local parts = { xml.text("Name", bucket), xml.element("Prefix", encode(prefix)) }
  if delimiter ~= "" then parts[#parts + 1] = xml.element("Delimiter", encode(delimiter)) end
  if is_encoded then parts[#parts + 1] = xml.text("EncodingType", "url") end
  parts[#parts + 1] = xml.text("MaxKeys", limit) .. xml.text("IsTruncated", is_truncated)
  if is_v2 then parts[#parts + 1] = xml.text("KeyCount", count) end
  if is_truncated then
    parts[#parts + 1] = is_v2 and xml.text("NextContinuationToken", ngx.encode_base64(last))
      or xml.element("NextMarker", encode(last))
  end
  return xml.send(200, '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">' ..
    table.concat(parts) .. table.concat(contents) .. table.concat(prefixes) .. "</ListBucketResult>")
end

return listing
