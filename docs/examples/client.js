// Reads a value, writes one, and shows what changes. npm install dbus-next
const dbus = require('dbus-next');

const SERVICE = 'com.victronenergy.vebus.ttyUSB0';
const ITEM = 'com.victronenergy.BusItem';

// Without variants. What is not known right now is an empty array: null.
const plain = (variant) => (Array.isArray(variant.value) && !variant.value.length ? null : variant.value);

async function main() {
  const bus = dbus.systemBus();
  const item = async (path) => (await bus.getProxyObject(SERVICE, path)).getInterface(ITEM);

  const volts = plain(await (await item('/Dc/0/Voltage')).GetValue());
  console.log('battery:', volts === null ? 'not known' : `${volts} V`);

  // 0: done and confirmed by the device; 1: refused; 2: failed. It can take 5 s.
  const limit = await item('/Ac/ActiveIn/CurrentLimit');
  console.log('limit of 16 A:', ['done', 'refused', 'failed'][await limit.SetValue(new dbus.Variant('d', 16))]);

  // First listen, then read all: so nothing is missed.
  const root = await item('/');
  root.on('ItemsChanged', (items) => {
    const load = items['/Ac/Out/P'];
    if (load && load.Text) console.log('load:', load.Text.value);
  });
  const items = await root.GetItems();
  console.log('state:', items['/State'].Text.value);
}

main().catch((error) => {
  console.error(`client: ${error.message}`);
  process.exit(1);
});
