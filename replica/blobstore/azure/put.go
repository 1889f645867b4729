package azure

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"golang.org/x/sync/errgroup"

	"lifeboat/replica/blobstore"
)

const (
	// putKey is the metadata that holds the id of the Put that made a blob.
	putKey = "lifeboatput"
	// checksumTries is how often content is read and sent when the service
	// received something else.
	checksumTries = 3
	// maxBlocks is the service's limit of blocks in a blob.
	maxBlocks = 50_000
)

// Put implements blobstore.Store.
func (s *Store) Put(ctx context.Context, name string, content io.ReaderAt, size int64) error {
	if err := s.valid("put", name); err != nil {
		return err
	}
	if size < 0 || size > maxBlocks*s.options.BlockSize {
		return s.refuse("put", name, fmt.Errorf("size %d is not between 0 and %d", size, maxBlocks*s.options.BlockSize))
	}
	u := &upload{
		client: s.container.NewBlockBlobClient(s.prefix + name), content: content, size: size, blockSize: s.options.BlockSize,
	}
	_, _ = rand.Read(u.id[:]) // it never fails
	err := u.run(ctx, s.options.Parallel)
	if saysTaken(err) {
		err = s.resolve(ctx, name, u.id, err)
	}
	if err != nil {
		return s.fail(ctx, "put", name, err)
	}
	return nil
}

// upload is one call of Put.
type upload struct {
	client    *blockblob.Client
	content   io.ReaderAt
	size      int64
	blockSize int64
	id        [16]byte
}

func (u *upload) run(ctx context.Context, parallel int) error {
	if u.size > u.blockSize {
		return u.inBlocks(ctx, parallel)
	}
	return u.send(ctx, 0, u.size, func(content *body, sum blob.TransferValidationTypeMD5) error {
		_, err := u.client.Upload(ctx, content, &blockblob.UploadOptions{
			Metadata: u.metadata(), AccessConditions: absent(), TransactionalValidation: sum,
		})
		return err
	})
}

func (u *upload) inBlocks(ctx context.Context, parallel int) error {
	var ids []string
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for offset := int64(0); offset < u.size && groupCtx.Err() == nil; offset += u.blockSize {
		id := u.blockID(len(ids))
		ids = append(ids, id)
		group.Go(func() error {
			length := min(u.blockSize, u.size-offset)
			return u.send(groupCtx, offset, length, func(content *body, sum blob.TransferValidationTypeMD5) error {
				_, err := u.client.StageBlock(groupCtx, id, content, &blockblob.StageBlockOptions{TransactionalValidation: sum})
				return err
			})
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := u.client.CommitBlockList(ctx, ids, &blockblob.CommitBlockListOptions{
		Metadata: u.metadata(), AccessConditions: absent(),
	})
	return err
}

// send gives one piece of the content with its checksum to request, again when
// the service received something else.
func (u *upload) send(
	ctx context.Context, offset, length int64, request func(*body, blob.TransferValidationTypeMD5) error,
) error {
	var err error
	for range checksumTries {
		if err := ctx.Err(); err != nil {
			return err
		}
		content := &body{content: u.content, start: offset, size: length}
		hash := md5.New()
		if _, err := io.Copy(hash, content); err != nil {
			return err
		}
		content.at = 0
		err = request(content, hash.Sum(nil))
		if broken := content.revoke(); broken != nil && err != nil {
			return broken
		}
		if !bloberror.HasCode(err, bloberror.MD5Mismatch) {
			return err
		}
	}
	return err
}

// blockID returns the id of the n-th block; all ids of a blob must have one
// length.
func (u *upload) blockID(n int) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(u.id[:], uint32(n)))
}

func (u *upload) metadata() map[string]*string {
	return map[string]*string{putKey: to.Ptr(hex.EncodeToString(u.id[:]))}
}

func absent() *blob.AccessConditions {
	return &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)}}
}

// saysTaken tells whether a refusal can mean that the name is taken. A list of
// blocks is also refused when another writer's commit has discarded them.
func saysTaken(err error) bool {
	return bloberror.HasCode(
		err, bloberror.BlobAlreadyExists, bloberror.ConditionNotMet, bloberror.UnauthorizedBlobOverwrite,
		bloberror.BlobImmutableDueToPolicy, bloberror.InvalidBlockList, bloberror.InvalidBlobOrBlock, bloberror.InvalidBlockID,
	)
}

// resolve finds out what it means that a name is said to be taken: see the
// package comment.
func (s *Store) resolve(ctx context.Context, name string, id [16]byte, refusal error) error {
	properties, err := s.properties(ctx, name)
	switch {
	case err == nil && putID(properties.Metadata) == hex.EncodeToString(id[:]):
		return nil
	case err == nil:
		e := blobstore.NewError("put", name, blobstore.ErrExists, nil)
		e.Store, e.Code = s.name, codeOf(refusal)
		return e
	case bloberror.HasCode(err, bloberror.BlobNotFound):
		return &blobstore.Error{
			Op: "put", Name: name, Store: s.name, Code: codeOf(refusal),
			Err: fmt.Errorf("refused (%s), yet there is no such blob: another writer or a deletion came between", codeOf(refusal)),
		}
	default:
		return fmt.Errorf("refused (%s), and the blob that is in the way cannot be looked at: %w", codeOf(refusal), err)
	}
}

// putID returns the id of the Put that made a blob. The service gives the
// names of metadata back in another case.
func putID(metadata map[string]*string) string {
	for key, value := range metadata {
		if strings.EqualFold(key, putKey) && value != nil {
			return *value
		}
	}
	return ""
}

// codeOf returns the service's name of an error, or an empty string.
func codeOf(err error) string {
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return e.ErrorCode
	}
	return ""
}
