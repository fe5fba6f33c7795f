-- An S3 over files: object KEY of bucket BUCKET is the file ROOT/BUCKET/KEY.
--
-- This decides what a request is. Bodies never pass through Lua where they count: nginx's static module answers GET and
-- HEAD (sendfile, ranges, conditions), its WebDAV module stores PUT. The price of plain files: no authentication, no
-- metadata, an opaque ETag (time and size; of a part its ends and size), "a" and "a/b" cannot both be keys, nor can keys
-- with empty or dotted segments.

local files = require "files"
local listing = require "listing"
local xml = require "xml"

local MIN_PART_BYTES = 5 * 1024 * 1024
local NAMESPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'

local s3 = {}

local function finish(status)
  ngx.status = status
  if status ~= 204 then ngx.header.content_length = 0 end
  ngx.send_headers()
  return ngx.exit(status)
end

local function document(name, content)
  return "<" .. name .. NAMESPACE .. ">" .. content .. "</" .. name .. ">"
end

local function request_body()
  ngx.req.read_body()
  local body = ngx.req.get_body_data()
  local path = not body and ngx.req.get_body_file()
  if path then
    local file = assert(io.open(path, "rb"))
    body = file:read "*a"
    file:close()
  end
  return body or ""
end

local function temporary()
  return ngx.var.document_root .. "/.temporary/" .. ngx.var.request_id
end

-- Buckets --------------------------------------------------------------------------------------------------------

local function list_buckets(root)
  local found = {}
  for name, is_folder in pairs(files.entries(root)) do
    if is_folder and name:sub(1, 1) ~= "." then
      found[#found + 1] = xml.element("Bucket", xml.text("Name", name) ..
        xml.text("CreationDate", "2020-01-01T00:00:00.000Z"))
    end
  end
  table.sort(found)
  return xml.send(200, document("ListAllMyBucketsResult", xml.element("Buckets", table.concat(found))))
end

local function delete_many(folder)
  local body, deleted = request_body(), {}
  for key in body:gmatch "<Key>(.-)</Key>" do
    os.remove(folder .. xml.unescape(key))
    deleted[#deleted + 1] = xml.element("Deleted", xml.element("Key", key))
  end
  local is_quiet = body:find("<Quiet>true</Quiet>", 1, true)
  return xml.send(200, document("DeleteResult", is_quiet and "" or table.concat(deleted)))
end

local function list_uploads(bucket, root)
  local found = {}
  for id, is_folder in pairs(files.entries(root .. "/.uploads")) do
    local file = is_folder and io.open(root .. "/.uploads/" .. id .. "/target", "rb")
    local target = file and file:read "*a"
    if file then file:close() end
    local key = target and target:sub(1, #bucket + 1) == bucket .. "/" and target:sub(#bucket + 2)
    if key then
      found[#found + 1] = xml.element("Upload", xml.text("Key", key) .. xml.text("UploadId", id))
    end
  end
  return xml.send(200, document("ListMultipartUploadsResult", xml.text("Bucket", bucket) ..
    xml.text("IsTruncated", false) .. table.concat(found)))
end

local function answer_bucket(method, bucket, folder, root)
  local arguments = ngx.req.get_uri_args()
  local is_present = files.stat(folder)
  if method == "PUT" and not next(arguments) then
    files.make_parents(folder)
    ngx.header.location = "/" .. bucket
    return finish(200)
  end
  if not is_present then return xml.error(404, "NoSuchBucket", "The specified bucket does not exist") end
  if method == "HEAD" then return finish(200) end
  if method == "DELETE" then
    local keys = {}
    files.walk(folder, "", keys)
    if #keys > 0 then return xml.error(409, "BucketNotEmpty") end
    files.remove_tree(folder:sub(1, -2))
    return finish(204)
  end
  if method == "POST" and arguments.delete then return delete_many(folder) end
  if method == "GET" and arguments.location then return xml.send(200, document("LocationConstraint", "")) end
  if method == "GET" and arguments.uploads then return list_uploads(bucket, root) end
  if method == "GET" then return listing.answer(bucket, folder, arguments) end
  return xml.error(501, "NotImplemented")
end

-- Multipart uploads ----------------------------------------------------------------------------------------------
-- Upload ID is the folder ROOT/.uploads/ID with one file per part, named by its number, and the file "target".

local function create_upload(bucket, key, root)
  local id = ngx.var.request_id
  local folder = root .. "/.uploads/" .. id .. "/"
  files.make_parents(folder)
  local file = assert(io.open(folder .. "target", "wb"))
  file:write(bucket .. "/" .. key)
  file:close()
  return xml.send(200, document("InitiateMultipartUploadResult", xml.text("Bucket", bucket) ..
    xml.text("Key", key) .. xml.text("UploadId", id)))
end

-- The paths of the parts that a completion names, or nil, the error code and what is wrong.
local function named_parts(folder)
  local parts, previous = {}, 0
  for part in request_body():gmatch "<Part>(.-)</Part>" do
    local number = tonumber(part:match "<PartNumber>(%d+)</PartNumber>")
    local etag = xml.unescape(part:match "<ETag>(.-)</ETag>" or ""):gsub('"', "")
    local path = number and folder .. number
    local stored = path and files.part_etag(path)
    if not stored or stored:gsub('"', "") ~= etag then
      return nil, "InvalidPart", ("part %s has ETag %s, not %s"):format(number, stored or "none", etag)
    end
    if number <= previous then return nil, "InvalidPartOrder" end
    if #parts > 0 and files.stat(parts[#parts]) < MIN_PART_BYTES then return nil, "EntityTooSmall" end
    parts[#parts + 1], previous = path, number
  end
  if #parts == 0 then return nil, "MalformedXML" end
  return parts
end

local function complete_upload(bucket, key, target, folder)
  local parts, code, message = named_parts(folder)
  if not parts then return xml.error(400, code, message) end
  if ngx.req.get_headers()["if-none-match"] == "*" and files.etag(target) then
    return xml.error(412, "PreconditionFailed")
  end
  files.concatenate(parts, target, temporary())
  files.remove_tree(folder:sub(1, -2))
  return xml.send(200, document("CompleteMultipartUploadResult", xml.text("Bucket", bucket) ..
    xml.text("Key", key) .. xml.text("ETag", files.etag(target))))
end

local function list_parts(bucket, key, id, folder)
  local numbers, found = {}, {}
  for name in pairs(files.entries(folder)) do numbers[#numbers + 1] = tonumber(name) end
  table.sort(numbers)
  for _, number in ipairs(numbers) do
    found[#found + 1] = xml.element("Part", xml.text("PartNumber", number) ..
      xml.text("ETag", files.part_etag(folder .. number)) .. xml.text("Size", (files.stat(folder .. number))))
  end
  return xml.send(200, document("ListPartsResult", xml.text("Bucket", bucket) .. xml.text("Key", key) ..
    xml.text("UploadId", id) .. xml.text("IsTruncated", false) .. table.concat(found)))
end

-- Objects --------------------------------------------------------------------------------------------------------

local function copy(source, target, root)
  local path = root .. "/" .. ngx.unescape_uri(source):gsub("^/", ""):gsub("%?versionId=.*$", "")
  local size, _, is_folder = files.stat(path)
  if not size or is_folder then return xml.error(404, "NoSuchKey") end
  files.concatenate({ path }, target, temporary())
  local _, modified = files.stat(target)
  return xml.send(200, document("CopyObjectResult", xml.text("ETag", files.etag(target)) ..
    xml.text("LastModified", os.date("!%Y-%m-%dT%H:%M:%S.000Z", modified))))
end

local function store(target, upload_id, arguments, headers)
  local etag = not upload_id and files.etag(target)
  local expected = headers["if-match"]
  if etag and headers["if-none-match"] == "*" then return xml.error(412, "PreconditionFailed") end
  if not upload_id and expected and not etag then return xml.error(404, "NoSuchKey") end
  if not upload_id and expected and expected:gsub('"', "") ~= etag:gsub('"', "") then
    return xml.error(412, "PreconditionFailed")
  end
  -- The conditions are answered; WebDAV would answer them again, otherwise.
  ngx.req.clear_header "If-Match"
  ngx.req.clear_header "If-None-Match"
  if upload_id then ngx.req.set_uri("/.uploads/" .. upload_id .. "/" .. tonumber(arguments.partNumber), false) end
  ngx.ctx.etag_of_stored = upload_id and files.part_etag or files.etag
  ngx.ctx.decoded_length = tonumber(headers["x-amz-decoded-content-length"])
end

local function answer_object(method, bucket, key, folder, root)
  local target = folder .. key
  if not files.stat(folder) then return xml.error(404, "NoSuchBucket", "The specified bucket does not exist") end
  local arguments = ngx.req.get_uri_args()
  local id = arguments.uploadId and tostring(arguments.uploadId):gsub("[^%w]", "")
  if (method == "GET" or method == "HEAD") and not id then
    local size, _, is_folder = files.stat(target)
    if not size or is_folder then return xml.error(404, "NoSuchKey", "The specified key does not exist.") end
    return -- nginx's static module goes on
  end
  local headers = ngx.req.get_headers()
  if method == "POST" and arguments.uploads then return create_upload(bucket, key, root) end
  local upload = id and root .. "/.uploads/" .. id .. "/"
  if upload and not files.stat(upload) then return xml.error(404, "NoSuchUpload") end
  if upload and method == "GET" then return list_parts(bucket, key, id, upload) end
  if upload and method == "POST" then return complete_upload(bucket, key, target, upload) end
  if method == "DELETE" then
    if upload then files.remove_tree(upload:sub(1, -2)) else os.remove(target) end
    return finish(204)
  end
  if method == "PUT" and headers["x-amz-copy-source"] and not upload then
    return copy(headers["x-amz-copy-source"], target, root)
  end
  if method == "PUT" and not headers["x-amz-copy-source"] then return store(target, id, arguments, headers) end
  return xml.error(501, "NotImplemented")
end

-- Phases of nginx ------------------------------------------------------------------------------------------------

--- Before the static and WebDAV modules: answer, or return and leave it to them.
function s3.rewrite()
  local delay = tonumber(ngx.var.s3_latency_ms)
  if delay > 0 then ngx.sleep(delay / 1000) end
  ngx.header["x-amz-request-id"] = ngx.var.request_id
  local method, root, uri = ngx.req.get_method(), ngx.var.document_root, ngx.var.uri
  local bucket, key = uri:match "^/([^/]+)/?(.*)$"
  if not bucket then return list_buckets(root) end
  if bucket:sub(1, 1) == "." then return xml.error(400, "InvalidBucketName") end
  local folder = root .. "/" .. bucket .. "/"
  if key == "" then return answer_bucket(method, bucket, folder, root) end
  return answer_object(method, bucket, key, folder, root)
end

--- After them: a stored body gets its ETag, and loses its framing where it had one.
function s3.header()
  if not ngx.ctx.etag_of_stored or (ngx.status ~= 201 and ngx.status ~= 204) then return end
  local path = ngx.var.document_root .. ngx.var.uri
  ngx.header.location = nil
  ngx.header.content_length = 0
  if ngx.ctx.decoded_length and not files.unframe(path, ngx.ctx.decoded_length, temporary()) then
    os.remove(path)
    ngx.status = 400
    return
  end
  ngx.status = 200
  ngx.header.etag = ngx.ctx.etag_of_stored(path)
end

s3.error = xml.error

return s3
