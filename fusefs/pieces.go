package fusefs

import "golang.org/x/sys/unix"

// folioPiece is the most that is written to the page cache of an ext4 at once.
//
// The kernel keeps what was written at once in one run of memory, a folio, if
// it can. ext4 walks through all blocks of a folio for each small write to it:
// in one of 1 MiB that takes 20 µs, where the write itself takes 2. So the
// folios of disks are kept small, at the price of some system calls more for
// large writes. Other file systems do not mind large folios.
const folioPiece = 32 << 10

// pieceFor returns how much is written at once to files of a file system.
func pieceFor(folder int) (int, error) {
	var s unix.Statfs_t
	if err := unix.Fstatfs(folder, &s); err != nil {
		return 0, err
	}
	if s.Type == unix.EXT4_SUPER_MAGIC {
		return folioPiece, nil
	}
	return maxTransfer, nil
}

// writeCached writes p through the page cache. What has to be durable when it
// is answered is written at once, since each piece would wait for the disk.
func (f *filter) writeCached(fd int, p []byte, offset int64, flags uint32) (int, error) {
	if flags&(unix.O_DSYNC|unix.O_SYNC) != 0 {
		return pwrite(fd, p, offset, flags)
	}
	done := 0
	for {
		at := offset + int64(done)
		n := min(f.piece-int(at%int64(f.piece)), len(p)-done)
		k, err := pwrite(fd, p[done:done+n], at, flags)
		if err != nil && done == 0 {
			return 0, err
		}
		done += max(k, 0) // the part that was written is told, not the error
		if k < n || done == len(p) {
			return done, nil
		}
	}
}
