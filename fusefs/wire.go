package fusefs

import (
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Opcodes of the FUSE protocol that the read loop itself knows.
const (
	opForget        = 2
	opRead          = 15
	opWrite         = 16
	opFsync         = 20
	opFsyncDir      = 30
	opInit          = 26
	opInterrupt     = 36
	opBatchForget   = 42
	opFallocate     = 43
	opCopyFileRange = 47

	maxOpcode = 64 // all opcodes are lower; what is not is counted as this less one
)

// operationNames are for people.
var operationNames = map[uint32]string{
	1: "LOOKUP", opForget: "FORGET", 3: "GETATTR", 4: "SETATTR", 5: "READLINK", 6: "SYMLINK", 8: "MKNOD", 9: "MKDIR",
	10: "UNLINK", 11: "RMDIR", 12: "RENAME", 13: "LINK", 14: "OPEN", opRead: "READ", opWrite: "WRITE", 17: "STATFS",
	18: "RELEASE", opFsync: "FSYNC", 21: "SETXATTR", 22: "GETXATTR", 23: "LISTXATTR", 24: "REMOVEXATTR", 25: "FLUSH",
	opInit: "INIT", 27: "OPENDIR", 28: "READDIR", 29: "RELEASEDIR", opFsyncDir: "FSYNCDIR", 34: "ACCESS", 35: "CREATE",
	opInterrupt: "INTERRUPT", 39: "IOCTL", opBatchForget: "BATCH_FORGET", opFallocate: "FALLOCATE", 44: "READDIRPLUS", 45: "RENAME2",
	46: "LSEEK", opCopyFileRange: "COPY_FILE_RANGE", 50: "SYNCFS", 51: "TMPFILE", 52: "STATX", 53: "COPY_FILE_RANGE_64",
}

const (
	inHeaderSize  = int(unsafe.Sizeof(fuse.InHeader{}))
	readInSize    = int(unsafe.Sizeof(fuse.ReadIn{}))
	writeInSize   = int(unsafe.Sizeof(fuse.WriteIn{}))
	outHeaderSize = int(unsafe.Sizeof(fuse.OutHeader{}))
	writeOutSize  = int(unsafe.Sizeof(fuse.WriteOut{}))
)

// The protocol's structures lie in the buffers as the kernel lays them out in
// memory: the buffers are aligned to 8 bytes.

func headerOf(request []byte) *fuse.InHeader {
	return (*fuse.InHeader)(unsafe.Pointer(unsafe.SliceData(request)))
}

// readOf returns the fixed part of a READ; ok is false if the request is too
// short to be one or wants more than room bytes.
func readOf(request []byte, room int) (in *fuse.ReadIn, ok bool) {
	if len(request) < readInSize {
		return nil, false
	}
	in = (*fuse.ReadIn)(unsafe.Pointer(unsafe.SliceData(request)))
	return in, int(in.Size) <= room
}

// writeOf returns the fixed part of a WRITE and its data; ok is false if the
// request is too short for what it says.
func writeOf(request []byte) (in *fuse.WriteIn, data []byte, ok bool) {
	if len(request) < writeInSize {
		return nil, nil, false
	}
	in = (*fuse.WriteIn)(unsafe.Pointer(unsafe.SliceData(request)))
	data = request[writeInSize:]
	if int(in.Size) > len(data) {
		return nil, nil, false
	}
	return in, data[:in.Size], true
}

// putReply writes the header of an answer with size bytes behind it, and
// returns the length of all. An error has nothing behind it.
func putReply(reply []byte, unique uint64, st fuse.Status, size int) int {
	if st != fuse.OK {
		size = 0
	}
	header := (*fuse.OutHeader)(unsafe.Pointer(unsafe.SliceData(reply)))
	*header = fuse.OutHeader{Length: uint32(outHeaderSize + size), Status: -int32(st), Unique: unique}
	return outHeaderSize + size
}

func putWritten(reply []byte, written int) {
	out := (*fuse.WriteOut)(unsafe.Pointer(unsafe.SliceData(reply[outHeaderSize : outHeaderSize+writeOutSize])))
	*out = fuse.WriteOut{Size: uint32(written)}
}
