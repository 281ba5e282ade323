"""Write a zip field by field, so that its fields can contradict one another."""

import dataclasses
import io
import stat
import struct
import zipfile
import zlib


@dataclasses.dataclass
class Member:
    """A member of a zip: the fields of the list at the end, and the `own_` fields of the member.

    None stands for the value that fits the others.
    """

    name: bytes
    content: bytes
    own_name: bytes | None = None
    checksum: int | None = None
    size: int | None = None
    packed: int | None = None
    own_size: int | None = None
    start: int | None = None
    flags: int = 0
    own_flags: int = 0
    method: int = 0
    own_method: int = 0
    version: int = 20
    extra: bytes = b""
    own_extra: bytes = b""
    comment: bytes = b""
    mode: int = stat.S_IFREG | 0o644

    def changed(self, **fields):
        return dataclasses.replace(self, **fields)

    def head(self):
        """Return the header before the content."""
        name = _or(self.own_name, self.name)
        size = _or(self.own_size, len(self.content))
        fields = (20, self.own_flags, self.own_method, 0, 33, self._sum(), size, size, len(name))
        return (
            struct.pack("<4s5H3L2H", b"PK\3\4", *fields, len(self.own_extra))
            + name
            + self.own_extra
        )

    def entry(self, start):
        """Return the entry in the list at the end."""
        size = _or(self.size, len(self.content))
        sizes = (self._sum(), _or(self.packed, size), size)
        lengths = (len(self.name), len(self.extra), len(self.comment))
        fields = (20, 3, self.version, self.flags, self.method, 0, 33, *sizes, *lengths, 0, 0)
        fixed = struct.pack("<4s2B5H3L5H", b"PK\1\2", *fields)
        place = struct.pack("<LL", self.mode << 16, _or(self.start, start))
        return fixed + place + self.name + self.extra + self.comment

    def _sum(self):
        return _or(self.checksum, zlib.crc32(self.content))


def _or(value, otherwise):
    return otherwise if value is None else value


def members_in(content):
    """Return the members of a zip."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [Member(name.encode(), archive.read(name)) for name in archive.namelist()]


def written(members, between=b"", before_end=b"", comment=b"", **end):
    """Return the zip; `end` sets fields of its last record: count, here, length, start, disk."""
    content, entries = b"", b""
    for member in members:
        entries += member.entry(len(content))
        content += member.head() + member.content
    content += between
    place = {"length": len(entries), "start": len(content), "comment": len(comment)}
    fields = {"disk": 0, "first": 0, "here": len(members), "count": len(members)} | place | end
    last = struct.pack("<4s4H2LH", b"PK\5\6", *fields.values())
    return content + entries + before_end + last + comment
