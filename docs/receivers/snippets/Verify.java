// Verify webhooks with nothing but the JDK (17 or newer). Copy the methods above the line; below it
// is a command that tries them on recorded requests.
//
// The body must be the bytes that came: request.getInputStream().readAllBytes() in a servlet.
// Headers are a map whose names are in lower case. Each method returns, or throws Refused: answer
// 401 then, and keep the reason to yourself.

import java.io.IOException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.MessageDigest;
import java.security.PublicKey;
import java.security.Signature;
import java.security.spec.X509EncodedKeySpec;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashMap;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

public final class Verify {
  static final long TOLERANCE = 300; // seconds, either way
  static final byte[] ED25519 = HexFormat.of().parseHex("302a300506032b6570032100"); // before the key

  /** The request is not genuine, or not of this time. */
  static final class Refused extends Exception {
    private static final long serialVersionUID = 1;

    Refused(String reason) {
      super(reason);
    }
  }

  /** Standard Webhooks. Keys are those in force: "whsec_..." (v1) or "whpk_..." (v1a). */
  static String verifyStandard(Map<String, String> headers, byte[] body, List<String> keys, long now)
      throws Refused, GeneralSecurityException {
    String id = headers.get("webhook-id");
    String stamp = headers.get("webhook-timestamp");
    String list = headers.get("webhook-signature");
    if (id == null || stamp == null || list == null) throw new Refused("a header is missing");
    if (!stamp.matches("[0-9]{1,15}") || Math.abs(now - Long.parseLong(stamp)) > TOLERANCE)
      throw new Refused("the time is not now");
    byte[] content = concat((id + "." + stamp + ".").getBytes(StandardCharsets.UTF_8), body);
    for (String entry : list.split(" ")) {
      String[] parts = entry.split(",", 2);
      byte[] signature = decode(parts.length == 2 ? parts[1] : "");
      for (String key : keys) {
        if (parts[0].equals("v1") && key.startsWith("whsec_")) {
          if (MessageDigest.isEqual(signature, hmac(decode(key.substring(6)), content))) return id;
        } else if (parts[0].equals("v1a") && key.startsWith("whpk_") && signature.length == 64) {
          PublicKey known = keyOf(concat(ED25519, decode(key.substring(5))));
          if (verifies("Ed25519", known, content, signature)) return id;
        }
      }
    }
    throw new Refused("no signature matches");
  }

  /** JewelMusic. Secrets are the texts in force. The signature does not cover the time. */
  static void verifyJewelMusic(Map<String, String> headers, byte[] body, List<String> secrets)
      throws Refused, GeneralSecurityException {
    byte[] given = headers.getOrDefault("x-jewelmusic-signature", "").getBytes(StandardCharsets.UTF_8);
    for (String secret : secrets) {
      byte[] sum = hmac(secret.getBytes(StandardCharsets.UTF_8), body);
      byte[] want = ("sha256=" + HexFormat.of().formatHex(sum)).getBytes(StandardCharsets.UTF_8);
      if (MessageDigest.isEqual(given, want)) return;
    }
    throw new Refused("no signature matches");
  }

  static final String LABEL = "[a-z*][a-z0-9_.*-]*";
  static final String PARAM = ";(" + LABEL + ")=(?:\"((?:[^\"\\\\]|\\\\.)*)\"|(-?[0-9]{1,15}))";
  static final Pattern INPUT = Pattern.compile(
      "(" + LABEL + ")=(\\(((?:\"[^\"\\\\]+\"(?: \"[^\"\\\\]+\")*)?)\\)((?:" + PARAM + ")*))(?=\\s*,|$)");

  /**
   * An HTTP message signature (RFC 9421). The URL is the one that is registered, with the query that
   * came; keys are the base64 of SubjectPublicKeyInfos, as the signing-key API gives them, by keyid.
   */
  static void verifyMessage(
      String method, String url, Map<String, String> headers, byte[] body, Map<String, String> keys, long now)
      throws Refused, GeneralSecurityException {
    Matcher input = INPUT.matcher(headers.getOrDefault("signature-input", ""));
    while (input.find()) {
      List<String> names = new ArrayList<>();
      for (String name : input.group(3).split(" ")) if (!name.isEmpty()) names.add(name.substring(1, name.length() - 1));
      Map<String, String> given = new HashMap<>();
      for (Matcher p = Pattern.compile(PARAM).matcher(input.group(4)); p.find(); )
        given.put(p.group(1), p.group(2) != null ? p.group(2) : p.group(3));
      Matcher signature = Pattern.compile("(?:^|,)\\s*" + Pattern.quote(input.group(1)) + "=:([A-Za-z0-9+/=]*):")
          .matcher(headers.getOrDefault("signature", ""));
      String text = keys.get(given.get("keyid"));
      if (!signature.find() || text == null || !"webhook".equals(given.get("tag"))) continue; // of somebody else
      PublicKey key = keyOf(decode(text));
      String[] algorithm = algorithmOf(key);
      if (!algorithm[0].equals(given.getOrDefault("alg", algorithm[0])))
        throw new Refused("the algorithm is not the key's");
      long created = number(given.get("created"));
      if (created > now + 60 || created < now - TOLERANCE || number(given.get("expires")) <= now)
        throw new Refused("the time is not now");
      if (!names.containsAll(List.of("@method", "@target-uri"))
          && !names.containsAll(List.of("@method", "@authority", "@path", "@query")))
        throw new Refused("the URL is not covered");
      if (body.length > 0 && !names.contains("content-digest")) throw new Refused("the body is not covered");
      if (new HashSet<>(names).size() != names.size()) throw new Refused("a component is there twice");
      StringBuilder base = new StringBuilder();
      for (String name : names)
        base.append('"').append(name).append("\": ").append(component(name, method, url, headers)).append('\n');
      base.append("\"@signature-params\": ").append(input.group(2));
      if (!verifies(algorithm[1], key, base.toString().getBytes(StandardCharsets.ISO_8859_1), decode(signature.group(1))))
        throw new Refused("no signature matches");
      byte[] sum = MessageDigest.getInstance("SHA-256").digest(body);
      String digest = "sha-256=:" + Base64.getEncoder().encodeToString(sum) + ":";
      if (names.contains("content-digest") && !digest.equals(headers.get("content-digest")))
        throw new Refused("the body is another");
      return;
    }
    throw new Refused("no signature by a known key");
  }

  static String component(String name, String method, String url, Map<String, String> headers) throws Refused {
    URI uri = URI.create(url);
    String value = switch (name) {
      case "@method" -> method;
      case "@target-uri" -> url;
      case "@authority" -> uri.getRawAuthority().toLowerCase();
      case "@path" -> uri.getRawPath().isEmpty() ? "/" : uri.getRawPath();
      case "@query" -> "?" + (uri.getRawQuery() == null ? "" : uri.getRawQuery());
      default -> headers.get(name);
    };
    if (value == null) throw new Refused(name + " is missing");
    return value.strip();
  }

  static byte[] hmac(byte[] key, byte[] content) throws GeneralSecurityException {
    Mac mac = Mac.getInstance("HmacSHA256");
    mac.init(new SecretKeySpec(key, "HmacSHA256"));
    return mac.doFinal(content);
  }

  static PublicKey keyOf(byte[] spki) throws GeneralSecurityException {
    boolean edwards = spki.length == 44 && Arrays.equals(spki, 0, ED25519.length, ED25519, 0, ED25519.length);
    return KeyFactory.getInstance(edwards ? "Ed25519" : "EC").generatePublic(new X509EncodedKeySpec(spki));
  }

  /** The names of the key's algorithm in RFC 9421 and in Java. */
  static String[] algorithmOf(PublicKey key) {
    if (!(key instanceof java.security.interfaces.ECPublicKey ec)) return new String[] {"ed25519", "Ed25519"};
    return ec.getParams().getOrder().bitLength() == 384
        ? new String[] {"ecdsa-p384-sha384", "SHA384withECDSAinP1363Format"}
        : new String[] {"ecdsa-p256-sha256", "SHA256withECDSAinP1363Format"};
  }

  static boolean verifies(String algorithm, PublicKey key, byte[] content, byte[] signature) {
    try {
      Signature s = Signature.getInstance(algorithm);
      s.initVerify(key);
      s.update(content);
      return s.verify(signature);
    } catch (GeneralSecurityException malformed) {
      return false;
    }
  }

  static byte[] decode(String text) {
    try {
      return Base64.getDecoder().decode(text);
    } catch (IllegalArgumentException malformed) {
      return new byte[0];
    }
  }

  static long number(String text) throws Refused {
    if (text == null || !text.matches("-?[0-9]{1,15}")) throw new Refused("the time is missing");
    return Long.parseLong(text);
  }

  static byte[] concat(byte[] a, byte[] b) {
    byte[] all = Arrays.copyOf(a, a.length + b.length);
    System.arraycopy(b, 0, all, a.length, b.length);
    return all;
  }

  // -------------------------------------------------------------------------------------------
  // java Verify.java standard|jewelmusic|message FILE...   Each file is a request as it was
  // recorded: request line, headers, an empty line, body. WEBHOOK_KEYS holds the secrets or keys,
  // separated by spaces (for message: keyid=base64 each), WEBHOOK_ORIGIN the beginning of the
  // registered URL, and WEBHOOK_NOW the time to judge by, for recordings.
  public static void main(String[] args) throws IOException, GeneralSecurityException {
    List<String> keys = List.of(System.getenv().getOrDefault("WEBHOOK_KEYS", "").split(" "));
    String clock = System.getenv("WEBHOOK_NOW");
    long now = clock == null ? System.currentTimeMillis() / 1000 : Long.parseLong(clock);
    boolean failed = false;
    for (String file : Arrays.copyOfRange(args, 1, args.length)) {
      byte[] raw = Files.readAllBytes(Path.of(file));
      String text = new String(raw, StandardCharsets.ISO_8859_1);
      int end = text.indexOf("\r\n\r\n");
      byte[] body = Arrays.copyOfRange(raw, end + 4, raw.length);
      String[] lines = text.substring(0, end).split("\r\n");
      Map<String, String> headers = new HashMap<>();
      for (String line : Arrays.copyOfRange(lines, 1, lines.length)) {
        String[] field = line.split(":", 2);
        headers.merge(field[0].toLowerCase(), field[1].strip(), (a, b) -> a + ", " + b);
      }
      String[] first = lines[0].split(" ");
      try {
        switch (args[0]) {
          case "standard" -> verifyStandard(headers, body, keys, now);
          case "jewelmusic" -> verifyJewelMusic(headers, body, keys);
          default -> {
            Map<String, String> known = new HashMap<>();
            for (String key : keys) known.put(key.split("=", 2)[0], key.split("=", 2)[1]);
            String url = System.getenv().getOrDefault("WEBHOOK_ORIGIN", "") + first[1];
            verifyMessage(first[0], url, headers, body, known, now);
          }
        }
        System.out.println(file + ": genuine");
      } catch (Refused reason) {
        System.out.println(file + ": refused: " + reason.getMessage());
        failed = true;
      }
    }
    System.exit(failed ? 1 : 0);
  }
}
