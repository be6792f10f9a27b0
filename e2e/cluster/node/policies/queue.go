// Takes the place of expr/queue.go of github.com/google/nftables.

package expr

import (
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/xt"
)

type QueueFlag uint16

const QueueFlagBypass QueueFlag = 1

// Queue hands packets to a program. A kernel may be without nftables' own expression for that (CONFIG_NFT_QUEUE),
// but hardly without the target of iptables, which kube-proxy's rules need to be there as well.
type Queue struct {
	Num   uint16
	Total uint16
	Flag  QueueFlag
}

func (e *Queue) target() *Target {
	// struct xt_NFQ_info_v3, padded to eight bytes.
	var info xt.Unknown
	for _, word := range []uint16{e.Num, max(e.Total, 1), uint16(e.Flag), 0} {
		info = append(info, binaryutil.NativeEndian.PutUint16(word)...)
	}
	return &Target{Name: "NFQUEUE", Rev: 3, Info: &info}
}

func (e *Queue) marshal(fam byte) ([]byte, error) { return e.target().marshal(fam) }

func (e *Queue) marshalData(fam byte) ([]byte, error) { return e.target().marshalData(fam) }

// unmarshal is never asked: the kernel calls it a target.
func (e *Queue) unmarshal(byte, []byte) error { return nil }
