<?php

// Verify webhooks with nothing but PHP's own extensions (8.1 or newer; v1a needs sodium, which is
// one of them). Copy the functions above the line; below it is a command that tries them on recorded
// requests.
//
// The body must be the bytes that came: file_get_contents('php://input'). Headers are an array whose
// names are in lower case: array_change_key_case(getallheaders()). Each function returns, or throws
// Refused: answer 401 then, and keep the reason to yourself.

declare(strict_types=1);

const TOLERANCE = 300; // seconds, either way

final class Refused extends RuntimeException
{
}

/** Standard Webhooks. Keys are those in force: "whsec_..." (v1) or "whpk_..." (v1a). */
function verify_standard(array $headers, string $body, array $keys, ?int $now = null): string
{
    [$id, $stamp, $list] = array_map(fn ($name) => $headers["webhook-$name"] ?? '', ['id', 'timestamp', 'signature']);
    if ($id === '' || $stamp === '' || $list === '') {
        throw new Refused('a header is missing');
    }
    if (!preg_match('/^[0-9]{1,15}\z/', $stamp) || abs(($now ?? time()) - (int) $stamp) > TOLERANCE) {
        throw new Refused('the time is not now');
    }
    $content = "$id.$stamp.$body";
    foreach (explode(' ', $list) as $entry) {
        [$version, $text] = explode(',', "$entry,");
        $signature = (string) base64_decode($text, true);
        foreach ($keys as $key) {
            [$kind, $encoded] = explode('_', "{$key}_");
            $raw = (string) base64_decode($encoded, true);
            if ($version === 'v1' && $kind === 'whsec' && hash_equals(hash_hmac('sha256', $content, $raw, true), $signature)) {
                return $id;
            }
            if ($version === 'v1a' && $kind === 'whpk' && strlen($signature) === SODIUM_CRYPTO_SIGN_BYTES
                && sodium_crypto_sign_verify_detached($signature, $content, $raw)) {
                return $id;
            }
        }
    }
    throw new Refused('no signature matches');
}

/** JewelMusic. Secrets are the texts in force. The signature does not cover the time. */
function verify_jewelmusic(array $headers, string $body, array $secrets): void
{
    foreach ($secrets as $secret) {
        if (hash_equals('sha256=' . hash_hmac('sha256', $body, $secret), $headers['x-jewelmusic-signature'] ?? '')) {
            return;
        }
    }
    throw new Refused('no signature matches');
}

// ---------------------------------------------------------------------------------------------
// php verify.php standard|jewelmusic FILE...   Each file is a request as it was recorded: request
// line, headers, an empty line, body. WEBHOOK_KEYS holds the secrets or keys, separated by spaces,
// and WEBHOOK_NOW the time to judge by, for recordings.
if (PHP_SAPI === 'cli' && realpath($argv[0]) === __FILE__) {
    $keys = explode(' ', (string) getenv('WEBHOOK_KEYS'));
    $now = (int) (getenv('WEBHOOK_NOW') ?: time());
    $failed = 0;
    foreach (array_slice($argv, 2) as $file) {
        [$head, $body] = explode("\r\n\r\n", file_get_contents($file), 2);
        $headers = [];
        foreach (array_slice(explode("\r\n", $head), 1) as $line) {
            [$name, $value] = explode(':', $line, 2);
            $name = strtolower($name);
            $headers[$name] = isset($headers[$name]) ? $headers[$name] . ', ' . trim($value) : trim($value);
        }
        try {
            if ($argv[1] === 'standard') {
                verify_standard($headers, $body, $keys, $now);
            } else {
                verify_jewelmusic($headers, $body, $keys);
            }
            echo "$file: genuine\n";
        } catch (Refused $reason) {
            echo "$file: refused: {$reason->getMessage()}\n";
            $failed = 1;
        }
    }
    exit($failed);
}
