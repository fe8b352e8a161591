import { chipMachines, roomFor } from '../chip';
import { FakeModel } from './fakeModel';
import * as fixtures from './fixtures';

describe('the chip’s menu', () => {
  const names = (model: FakeModel, room = 12): string[] =>
    chipMachines(model, model.kernels[0], room).machines.map(({ name }) => name);

  it('names the machines that the notebook can move to, those that are on first', () => {
    // win-vm cannot run notebooks.
    expect(names(new FakeModel())).toEqual(['cpu-vm', 'gpu-vm', 'old-vm', 'lab']);
  });

  it('begins with the one where it runs, which it cannot move to', () => {
    const model = new FakeModel();
    model.kernels = [{ ...fixtures.kernel, compute: fixtures.gpu.id }];
    expect(names(model)).toEqual(['gpu-vm', 'cpu-vm', 'old-vm', 'lab']);
  });

  it('leaves out what is changing', () => {
    const model = new FakeModel();
    model.operations = [{ ...fixtures.attach, kernel: null }];
    expect(names(model)).toEqual(['cpu-vm', 'old-vm', 'lab']);
  });

  it('says where there are more than fit', () => {
    const model = new FakeModel();
    model.computes = Array.from({ length: 300 }, (_, index) => ({
      ...fixtures.gpu,
      id: `azure:${index}`,
      name: `vm-${index}`
    }));
    const shown = chipMachines(model, model.kernels[0], 12);
    expect([shown.machines.length, shown.more]).toEqual([12, true]);
    expect(chipMachines(model, model.kernels[0], 300).more).toBe(false);
  });

  it.each([
    [900, 12],
    [280, 6],
    [60, 3]
  ])('in %i px below the chip there is room for %i', (below, room) => {
    expect(roomFor(below)).toBe(room);
  });
});
