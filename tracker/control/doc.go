// Package control is the control API between the filter, which tracks the
// disks, and the sidecar, which ships what changed: server and client.
//
// It is HTTP/1.1 over a Unix socket of mode 0600. Whoever may open the socket
// may do everything; there is no further authentication. All paths begin with
// /v1/; a change that an older peer would misread gets another number.
//
//	GET    /v1/filter                                      Info
//	GET    /v1/vms                                         [tracker.VM]
//	POST   /v1/vms                        tracker.Spec     tracker.VM, 201
//	GET    /v1/vms/ID                                      tracker.VM
//	DELETE /v1/vms/ID                                      204
//	POST   /v1/vms/ID/rollover            {walk}           tracker.Epoch
//	POST   /v1/vms/ID/acknowledge         {epoch, walk}    204
//	POST   /v1/vms/ID/require-walk        {reason}         204
//	GET    /v1/vms/ID/disks/DISK/allocated?from=BLOCK      extents, none or one
//	GET    /v1/vms/ID/disks/DISK/data?offset=N&length=N    bytes
//	GET    /v1/vms/ID/disks/DISK/epochs/N/changed          extents
//	GET    /v1/vms/ID/disks/DISK/epochs/N/data?offset=N&length=N
//	                                                       bytes
//	POST   /v1/vms/ID/disks/DISK/epochs/N/read   extents   bytes, run after run
//	GET    /v1/events?after=SEQUENCE                       [tracker.Event]
//
// Bodies are JSON but for extents and the bytes of disks. A request for bytes
// asks for at most MaxRead of them and is answered with exactly as many, read
// whole before the first is sent: an answer with status 200 is never cut short
// by a fault of the disk. The request /read exists because random writes leave
// thousands of short extents, and an exchange for each would cost more than
// their content.
//
// A refusal has a status of 400 or above and the body
//
//	{"code": "epoch-gone", "message": "…", "hint": "…"}
//
// The code decides, the status is for people with curl. Codes stand for the
// sentinel errors of package tracker, which errors.Is finds on the client's
// side as on the server's; see the Code constants.
//
// Extents are encoded as
//
//	"LBX" 0x01                     magic and version
//	{ uvarint gap, uvarint count } one pair for each extent, count at least 1
//	0x00 0x00                      the end
//	uvarint n                      the number of extents, against truncation
//
// where gap is the distance from the end of the extent before (the first one's
// from block 0), so it is at least 1 but for the first.
package control
