package plane

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/postrider/postrider/test/kube/manifest"
)

// issue makes the Secrets that cert-manager and External Secrets would.
func (c *Cluster) issue() error {
	for _, cert := range c.set.Certificates {
		if err := c.Renew(cert.Metadata.Name); err != nil {
			return err
		}
	}
	for _, e := range c.set.ExternalSecrets {
		if r := e.Spec.SecretStoreRef; r.Kind != "SecretStore" || r.Name != "postrider" {
			return fmt.Errorf("external secret %s: there is no %s %s", e.Metadata.Name, r.Kind, r.Name)
		}
		secret := map[string][]byte{}
		for _, d := range e.Spec.Data {
			value, ok := c.opts.Store[d.RemoteRef.Key]
			if !ok {
				return fmt.Errorf("external secret %s: the store has no %s", e.Metadata.Name, d.RemoteRef.Key)
			}
			secret[d.SecretKey] = []byte(value)
		}
		c.secrets[e.Spec.Target.Name] = secret
	}
	maps.Copy(c.secrets, c.opts.Secrets)
	return nil
}

// Renew issues a certificate anew. Pods that run see it when their volumes are refreshed.
func (c *Cluster) Renew(name string) error {
	cert, ok := c.set.Certificates[name]
	if !ok {
		return fmt.Errorf("there is no certificate %s", name)
	}
	pair, err := c.opts.Authority.Issue(cert)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.secrets[cert.Spec.SecretName] = map[string][]byte{"tls.crt": pair.Cert, "tls.key": pair.Key, "ca.crt": pair.CA}
	return nil
}

// file is one file of a volume.
type file struct {
	content []byte
	mode    os.FileMode
}

// contents are the files of a volume.
func (c *Cluster) contents(v *manifest.Volume) (map[string]file, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]file{}
	whole := func(data map[string][]byte, mode int) {
		for key, value := range data {
			out[key] = file{value, os.FileMode(mode)}
		}
	}
	switch {
	case v.Secret != nil:
		data, ok := c.secrets[v.Secret.SecretName]
		if !ok {
			return nil, fmt.Errorf("there is no secret %s", v.Secret.SecretName)
		}
		whole(data, v.Secret.DefaultMode)
	case v.ConfigMap != nil:
		m, ok := c.set.ConfigMaps[v.ConfigMap.Name]
		if !ok {
			return nil, fmt.Errorf("there is no config map %s", v.ConfigMap.Name)
		}
		data := map[string][]byte{}
		for key, value := range m.Data {
			data[key] = []byte(value)
		}
		whole(data, v.ConfigMap.DefaultMode)
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			for _, item := range s.Secret.Items {
				value, ok := c.secrets[s.Secret.Name][item.Key]
				if !ok {
					return nil, fmt.Errorf("there is no key %s of secret %s", item.Key, s.Secret.Name)
				}
				out[item.Path] = file{value, os.FileMode(v.Projected.DefaultMode)}
			}
		}
	default:
		return nil, errors.New("it is of nothing that this fills")
	}
	return out, nil
}

// fill writes a volume as the kubelet does: into a folder of its own, to which a link then points,
// so that a process sees the old files or the new ones and never a mixture.
func fill(dir string, files map[string]file, group int) error {
	versions, err := filepath.Glob(filepath.Join(dir, "..v*"))
	if err != nil {
		return err
	}
	version := filepath.Join(dir, "..v"+strconv.Itoa(len(versions)+1))
	if err := os.MkdirAll(version, 0o755); err != nil {
		return err
	}
	for name, f := range files {
		if strings.Contains(name, "/") {
			return fmt.Errorf("%s: this makes no folders in volumes", name)
		}
		path := filepath.Join(version, name)
		// With a group the kubelet lets the group read, and no mask of ours applies.
		if err := errors.Join(os.WriteFile(path, f.content, 0o600), os.Chown(path, 0, group), os.Chmod(path, f.mode|0o440)); err != nil {
			return err
		}
		link := filepath.Join(dir, name)
		if err := os.Symlink(filepath.Join("..data", name), link); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	fresh := filepath.Join(dir, "..fresh")
	return errors.Join(os.Symlink(filepath.Base(version), fresh), os.Rename(fresh, filepath.Join(dir, "..data")))
}

// volumes fills every volume of a pod and returns their folders.
func (c *Cluster) volumes(pod string, spec *manifest.PodSpec) (map[string]string, error) {
	out := map[string]string{}
	for _, v := range spec.Volumes {
		files, err := c.contents(&v)
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", v.Name, err)
		}
		dir := filepath.Join(c.opts.Dir, pod, v.Name)
		if err := fill(dir, files, spec.SecurityContext.FSGroup); err != nil {
			return nil, fmt.Errorf("volume %s: %w", v.Name, err)
		}
		out[v.Name] = dir
	}
	return out, nil
}

// Refresh writes the volumes of every pod anew, as the kubelet does about once a minute.
func (c *Cluster) Refresh() error {
	for _, d := range slices.Sorted(maps.Keys(c.set.Deployments)) {
		for _, p := range c.Pods(d) {
			if _, err := c.volumes(p.Name, &p.Template.Spec); err != nil {
				return err
			}
		}
	}
	return nil
}
