# frozen_string_literal: true

# Verify webhooks with nothing but Ruby's standard library (3.0 or newer). Copy the module; below it
# is a command that tries it on recorded requests.
#
# The body must be the bytes that came: request.raw_post in Rails, request.body.read in Sinatra.
# Headers are a hash whose names are in lower case. Each method returns, or raises Refused: answer 401
# then, and keep the reason to yourself.
require 'openssl'

module Webhook
  TOLERANCE = 300 # seconds, either way
  ED25519 = ['302a300506032b6570032100'].pack('H*') # before the key
  class Refused < StandardError; end

  module_function

  # Standard Webhooks. Keys are those in force: "whsec_..." (v1) or "whpk_..." (v1a).
  def verify_standard(headers, body, keys, now = Time.now.to_i)
    id, stamp, list = %w[id timestamp signature].map { |name| headers["webhook-#{name}"].to_s }
    raise Refused, 'a header is missing' if [id, stamp, list].any?(&:empty?)
    raise Refused, 'the time is not now' unless stamp.match?(/\A[0-9]{1,15}\z/) && (now - stamp.to_i).abs <= TOLERANCE

    content = "#{id}.#{stamp}.".b + body.b
    list.split.each do |entry|
      version, text = entry.split(',', 2)
      signature = decode(text)
      keys.each do |key|
        kind, encoded = key.split('_', 2)
        raw = decode(encoded)
        return id if version == 'v1' && kind == 'whsec' && same?(signature, OpenSSL::HMAC.digest('SHA256', raw, content))
        return id if version == 'v1a' && kind == 'whpk' && ed25519?(raw, content, signature)
      end
    end
    raise Refused, 'no signature matches'
  end

  # JewelMusic. Secrets are the texts in force. The signature does not cover the time.
  def verify_jewelmusic(headers, body, secrets)
    given = headers['x-jewelmusic-signature'].to_s
    return if secrets.any? { |secret| same?(given, "sha256=#{OpenSSL::HMAC.hexdigest('SHA256', secret, body)}") }

    raise Refused, 'no signature matches'
  end

  def same?(given, want)
    given.bytesize == want.bytesize && OpenSSL.fixed_length_secure_compare(given, want)
  end

  def decode(text)
    text.to_s.unpack1('m0')
  rescue ArgumentError
    ''
  end

  def ed25519?(raw, content, signature)
    raw.bytesize == 32 && OpenSSL::PKey.read(ED25519 + raw).verify(nil, signature, content)
  rescue OpenSSL::PKey::PKeyError
    false
  end
end

# ---------------------------------------------------------------------------------------------
# ruby verify.rb standard|jewelmusic FILE...   Each file is a request as it was recorded: request
# line, headers, an empty line, body. WEBHOOK_KEYS holds the secrets or keys, separated by spaces, and
# WEBHOOK_NOW the time to judge by, for recordings.
if $PROGRAM_NAME == __FILE__
  form, *files = ARGV
  keys = ENV.fetch('WEBHOOK_KEYS', '').split
  now = ENV.fetch('WEBHOOK_NOW', Time.now.to_i).to_i
  failed = false
  files.each do |file|
    head, body = File.binread(file).split("\r\n\r\n", 2)
    headers = head.split("\r\n").drop(1).each_with_object({}) do |line, all|
      name, value = line.split(':', 2)
      (all[name.downcase] ||= []) << value.strip
    end
    headers.transform_values! { |values| values.join(', ') }
    begin
      form == 'standard' ? Webhook.verify_standard(headers, body, keys, now) : Webhook.verify_jewelmusic(headers, body, keys)
      puts "#{file}: genuine"
    rescue Webhook::Refused => e
      puts "#{file}: refused: #{e.message}"
      failed = true
    end
  end
  exit(failed ? 1 : 0)
end
