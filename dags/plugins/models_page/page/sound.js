// Sound in the form that a served model takes: WAV, 16 kHz, one channel, 16 bits, a second.

const RATE = 16_000; // Hz
const HEADER = 44; // bytes

/**
 * Return a recording, in any format that the browser reads, as a WAV of its loudest second. A file that the browser cannot read is
 * returned as it is.
 */
export async function asWav(file) {
  const content = await file.arrayBuffer();
  if (fits(content)) return new Blob([content], { type: "audio/wav" });
  try {
    const decoded = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(content.slice(0));
    return wav(loudestSecond(await mono(decoded)));
  } catch {
    return new Blob([content], { type: "audio/wav" }); // the service says what is wrong with it
  }
}

/** Return samples in -1..1 of any rate as a WAV of their loudest second. */
export async function samplesAsWav(samples, rate) {
  const buffer = new AudioBuffer({ length: samples.length, numberOfChannels: 1, sampleRate: rate });
  buffer.copyToChannel(samples, 0);
  return wav(loudestSecond(await mono(buffer)));
}

/** Return the address of a data URI's content that an `audio` element may play under the page's policy. */
export function audioAddress(uri) {
  const [head, data] = uri.split(",", 2);
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  return URL.createObjectURL(new Blob([bytes], { type: head.match(/^data:([^;]+)/)?.[1] ?? "audio/wav" }));
}

/** Whether a file is a plain WAV of the right form and at most a second long. */
function fits(content) {
  if (content.byteLength <= HEADER || content.byteLength > HEADER + 2 * RATE) return false;
  const view = new DataView(content);
  return (
    view.getUint32(0) === 0x52494646 &&
    view.getUint16(20, true) === 1 &&
    view.getUint16(22, true) === 1 &&
    view.getUint32(24, true) === RATE &&
    view.getUint16(34, true) === 16
  );
}

async function mono(buffer) {
  const context = new OfflineAudioContext(1, Math.max(1, Math.round(buffer.duration * RATE)), RATE);
  const source = new AudioBufferSourceNode(context, { buffer });
  source.connect(context.destination);
  source.start();
  return (await context.startRendering()).getChannelData(0);
}

function loudestSecond(samples) {
  if (samples.length <= RATE) return samples;
  let power = 0;
  let [best, most] = [0, -1];
  for (let at = 0; at < samples.length; at += 1) {
    power += samples[at] ** 2 - (at >= RATE ? samples[at - RATE] ** 2 : 0);
    if (at >= RATE - 1 && power > most) [best, most] = [at - RATE + 1, power];
  }
  return samples.subarray(best, best + RATE);
}

function wav(samples) {
  const view = new DataView(new ArrayBuffer(HEADER + 2 * samples.length));
  const text = (at, word) => [...word].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, view.byteLength - 8, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); // bytes of the format
  view.setUint16(20, 1, true); // integers
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, RATE, true);
  view.setUint32(28, 2 * RATE, true); // bytes a second
  view.setUint16(32, 2, true); // bytes a sample of all channels
  view.setUint16(34, 16, true); // bits
  text(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, index) =>
    view.setInt16(HEADER + 2 * index, Math.round(Math.min(Math.max(sample, -1), 1) * 32_767), true),
  );
  return new Blob([view], { type: "audio/wav" });
}
