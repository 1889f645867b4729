package fusefs

// FileID identifies a file of the folder below the mount by its inode there.
type FileID struct {
	Device uint64
	Inode  uint64
}

// Disk is the filter's view of one protected disk: the tracker implements it.
// All methods may be called concurrently. None returns an error, since a
// guest's I/O never fails for replication's sake.
type Disk interface {
	// BeginChange is called before length bytes from offset on are changed in
	// the disk file in any way that keeps its size or grows it: write,
	// copy_file_range. Every BeginChange is followed by one EndChange
	// with what it returned, called after the system call returned, whether it
	// failed or not. A rollover is not complete before the changes that began
	// before it are over, so the caller does nothing slow between the two but
	// the change itself.
	BeginChange(offset, length int64) (change uint64)
	EndChange(change uint64)

	// BeginClear is BeginChange for what makes zeros of data and leaves holes
	// what they are: to punch, to zero, to allocate a range. It takes time for
	// the data in the range, not for its length.
	BeginClear(offset, length int64) (change uint64)

	// BeginResize is called before the disk file is given another size, by
	// truncate or by a mode of fallocate that moves data, and EndResize after
	// it. keep is the lowest size that the file has on the way: bytes from
	// keep on are lost or moved. No change and no rollover happens between
	// the two.
	BeginResize(keep int64)
	EndResize()

	// NameRemoved is called after a name of the disk was unlinked or another
	// file was renamed over it.
	NameRemoved()
}
