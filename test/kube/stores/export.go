package stores

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/postrider/postrider/test/kube/plane"
)

// scrapeTimeout is that of deploy/prometheus.
const scrapeTimeout = 10 * time.Second

// Export is what the exporters of NATS and Redis would show: those of their series that our rules
// read, each from what the server itself says now.
func (s *Stores) Export(ctx context.Context) []plane.Page {
	pages := make([]plane.Page, 0, len(s.NATS)+1)
	for i, server := range s.NATS {
		text, err := exportNATS(ctx, "http://"+server.Address.String()+":8222")
		pages = append(pages, plane.Page{
			Pod: fmt.Sprintf("nats-%d", i), Labels: map[string]string{"job": "nats", "instance": server.Address.String() + ":7777"}, Text: text, Err: err,
		})
	}
	return append(pages, plane.Page{
		Pod: "redis", Labels: map[string]string{"job": "redis", "instance": redisAddress.String() + ":9121"}, Text: s.exportRedis(ctx),
	})
}

func exportNATS(ctx context.Context, url string) (string, error) {
	body, err := plane.Get(ctx, url+"/jsz?accounts=true&streams=true", scrapeTimeout)
	if err != nil {
		return "", err
	}
	var js struct {
		ID     string `json:"server_id"`
		Bytes  uint64 `json:"bytes"`
		Config struct {
			MaxStorage int64 `json:"max_storage"`
		} `json:"config"`
		Accounts []struct {
			Streams []struct {
				Name  string `json:"name"`
				State struct {
					Messages uint64 `json:"messages"`
				} `json:"state"`
			} `json:"stream_detail"`
		} `json:"account_details"`
	}
	if err := json.Unmarshal([]byte(body), &js); err != nil {
		return "", err
	}
	if js.ID == "" || js.Config.MaxStorage == 0 {
		return "", errors.New("the server does not say what it holds")
	}
	var out strings.Builder
	fmt.Fprintf(&out, "jetstream_server_total_message_bytes{server_id=%q} %d\n", js.ID, js.Bytes)
	fmt.Fprintf(&out, "jetstream_server_max_storage{server_id=%q} %d\n", js.ID, js.Config.MaxStorage)
	for _, a := range js.Accounts {
		for _, stream := range a.Streams {
			fmt.Fprintf(&out, "jetstream_stream_total_messages{server_id=%q,stream_name=%q} %d\n", js.ID, stream.Name, stream.State.Messages)
		}
	}
	return out.String(), nil
}

// exportRedis says that Redis is not up by a value: it is the exporter that answers Prometheus.
func (s *Stores) exportRedis(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, scrapeTimeout)
	defer cancel()
	client := s.Client()
	defer func() { _ = client.Close() }()
	info, err := client.InfoMap(ctx, "memory").Result()
	if err != nil {
		return "redis_up 0\n"
	}
	memory := info["Memory"]
	return fmt.Sprintf("redis_up 1\nredis_memory_used_bytes %s\nredis_memory_max_bytes %s\n", memory["used_memory"], memory["maxmemory"])
}
