-- What S3 needs of the file system and Lua's own library lacks: stat, mkdir, listing a folder.
--
-- `statx` because its structure is the same on every architecture, unlike `stat`'s.

local ffi = require "ffi"

ffi.cdef [[
struct s3_time { int64_t seconds; uint32_t nanoseconds; int32_t reserved; };
struct s3_statx {
  uint32_t mask, block_size; uint64_t attributes; uint32_t links, uid, gid; uint16_t mode, spare0;
  uint64_t inode, size, blocks, attributes_mask;
  struct s3_time accessed, born, changed, modified;
  uint32_t rdev_major, rdev_minor, dev_major, dev_minor; uint64_t spare[14];
};
int statx(int folder, const char *path, int flags, unsigned mask, struct s3_statx *result);
struct s3_dirent { uint64_t inode; int64_t offset; uint16_t length; uint8_t type; char name[256]; };
void *opendir(const char *path);
struct s3_dirent *readdir(void *folder);
int closedir(void *folder);
int mkdir(const char *path, unsigned mode);
int rmdir(const char *path);
]]

local CURRENT_FOLDER, ALL_FIELDS = -100, 0x7ff      -- AT_FDCWD, STATX_BASIC_STATS
local TYPE_MASK, FOLDER_MODE, FOLDER_ENTRY = 0xf000, 0x4000, 4 -- S_IFMT, S_IFDIR, DT_DIR
local COPY_BYTES = 1048576
local END_BYTES = 65536

local result = ffi.new "struct s3_statx"
local files = {}

--- Size, modification time in whole seconds, and whether it is a folder; nil where there is nothing.
function files.stat(path)
  if ffi.C.statx(CURRENT_FOLDER, path, 0, ALL_FIELDS, result) ~= 0 then return nil end
  local is_folder = bit.band(result.mode, TYPE_MASK) == FOLDER_MODE
  return tonumber(result.size), tonumber(result.modified.seconds), is_folder
end

--- The ETag that nginx gives a static file: modification time and size, in hexadecimal.
function files.etag(path)
  local size, modified, is_folder = files.stat(path)
  if not size or is_folder then return nil end
  return string.format('"%x-%x"', modified, size)
end

--- The ETag of an upload's part: of what it holds and not of when it came, as S3's is, since clients send a part anew
-- that is slow to be answered and name it by either answer. The two ends and the size stand for the whole.
function files.part_etag(path)
  local size, _, is_folder = files.stat(path)
  local file = size and not is_folder and io.open(path, "rb")
  if not file then return nil end
  local first = file:read(END_BYTES) or ""
  file:seek("end", -math.min(size, END_BYTES))
  local last = file:read(END_BYTES) or ""
  file:close()
  return string.format('"%08x%08x-%x"', ngx.crc32_long(first), ngx.crc32_long(last), size)
end

--- Make every folder that leads to `path`.
function files.make_parents(path)
  for at in path:gmatch "()/" do
    if at > 1 then ffi.C.mkdir(path:sub(1, at - 1), tonumber("755", 8)) end
  end
end

--- Names in a folder as {name = is_folder}.
function files.entries(path)
  local folder, found = ffi.C.opendir(path), {}
  if folder == nil then return found end
  while true do
    local entry = ffi.C.readdir(folder)
    if entry == nil then break end
    local name = ffi.string(entry.name)
    if name ~= "." and name ~= ".." then found[name] = entry.type == FOLDER_ENTRY end
  end
  ffi.C.closedir(folder)
  return found
end

--- Append the path of each file under `root .. prefix`, relative to `root`, to `found`.
function files.walk(root, prefix, found)
  for name, is_folder in pairs(files.entries(root .. prefix)) do
    if is_folder then
      files.walk(root, prefix .. name .. "/", found)
    else
      found[#found + 1] = prefix .. name
    end
  end
end

--- Remove a folder and all in it.
function files.remove_tree(path)
  for name, is_folder in pairs(files.entries(path)) do
    if is_folder then files.remove_tree(path .. "/" .. name) else os.remove(path .. "/" .. name) end
  end
  ffi.C.rmdir(path)
end

--- Write the files `sources`, one after the other, to `target`, which appears only when whole.
function files.concatenate(sources, target, temporary)
  local out = assert(io.open(temporary, "wb"))
  for _, source in ipairs(sources) do
    local file = assert(io.open(source, "rb"))
    while true do
      local block = file:read(COPY_BYTES)
      if not block then break end
      out:write(block)
    end
    file:close()
  end
  out:close()
  files.make_parents(target)
  assert(os.rename(temporary, target))
end

--- Take the framing of the `aws-chunked` content encoding out of a stored body.
-- Each chunk is a line with its length in hexadecimal, the bytes and CRLF; a chunk of length 0 and trailers end it.
-- See "Signature calculations for the authorization header: transferring payload in multiple chunks", Amazon S3 API.
-- Returns whether `size` bytes came out.
function files.unframe(path, size, temporary)
  local file, out = assert(io.open(path, "rb")), assert(io.open(temporary, "wb"))
  local total = 0
  while true do
    local line = file:read "*l"
    local length = line and tonumber(line:match "^%x+" or "", 16)
    if not length or length == 0 then break end
    local data = file:read(length)
    if not data or #data < length then break end
    out:write(data)
    total = total + length
    file:read(2)
  end
  file:close()
  out:close()
  os.rename(temporary, path)
  return total == size
end

return files
