// Package handover is what a filter leaves to the one that follows it on the
// same mount after it was killed: the shared state, and the descriptors that a
// keeper holds meanwhile; and what keeper and filter say to each other (socket.go).
// It has no policy.
//
// # The shared state
//
// The state is a memfd that keeper and filter map. A filter writes to it before
// it answers the kernel; nothing is ever synced, since it has to survive
// processes, not the host. It is sparse: what no node has used takes no memory.
// All numbers are in the machine's own byte order.
//
//	     0  magic, version, sizes; number and fresh of the node table;
//	        INIT as the kernel sent it, and the answer that it was given;
//	        beats, which the filter that serves counts up
//	  4096  the folder's path: 2 bytes of length and the path
//	 12288  the mount point's path, likewise
//	 20480  the journal: 256 entries of 512 bytes
//	151552  the node table: 2^24 records of 256 bytes
//
// # Invariants
//
//   - A record is written before its id, which makes it valid, and the id goes
//     before the slot is used again. So a record is there in full or not at all.
//   - The table's number is raised before a node gets it, so that no id is ever
//     used for a second inode, whoever dies when.
//   - Counts are raised before the kernel is answered and lowered after it has
//     asked. So what is lost can only make them too high: a node leaks.
//   - Whoever maps a state checks its version and distrusts every record: a
//     state that is not understood is refused as a whole.
package handover
