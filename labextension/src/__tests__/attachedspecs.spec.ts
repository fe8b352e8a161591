import { KernelSpec } from '@jupyterlab/services';
import { waitFor } from '@testing-library/dom';

import { AttachedKernelspecs, attachedMachines, offeredMachines } from '../attachedspecs';
import { settle } from './fakeServer';
import { FakeModel } from './fakeModel';
import * as fixtures from './fixtures';

const onGpu = {
  ...fixtures.kernel,
  compute: fixtures.gpu.id,
  link: { ...fixtures.local, state: 'connected' as const }
};

/** As `api/kernelspecs` has it. */
function listing(...computes: string[]): KernelSpec.ISpecModels {
  const specs = computes.map(compute => {
    const metadata = { kernel_provisioner: { provisioner_name: 'dsvm', config: { compute } } };
    return [`dsvm-${compute}`, { name: `dsvm-${compute}`, metadata }];
  });
  return {
    default: 'python3',
    kernelspecs: Object.fromEntries([['python3', { name: 'python3', metadata: {} }], ...specs])
  } as unknown as KernelSpec.ISpecModels;
}

class FakeSpecs {
  specs: KernelSpec.ISpecModels | null = listing();
  /** What the next answers are; the last one stays. */
  answers: KernelSpec.ISpecModels[] = [listing()];
  asked = 0;

  async refreshSpecs(): Promise<void> {
    this.asked++;
    await new Promise(resolve => setTimeout(resolve, 5));
    this.specs = this.answers.length > 1 ? this.answers.shift()! : this.answers[0];
  }
}

describe('the kernelspecs of attached machines', () => {
  let model: FakeModel;
  let specs: FakeSpecs;

  beforeEach(() => {
    model = new FakeModel();
    specs = new FakeSpecs();
    new AttachedKernelspecs(model, specs);
  });

  it('knows which machines are attached and which are offered', () => {
    const gone = { ...onGpu, compute: 'azure:x', link: { ...onGpu.link, state: 'gone' as const } };
    expect(attachedMachines({ kernels: [fixtures.kernel, onGpu, gone] })).toEqual(
      new Set([fixtures.gpu.id])
    );
    expect(offeredMachines(null)).toEqual(new Set());
    expect(offeredMachines(listing('azure:1', 'host:lab'))).toEqual(
      new Set(['azure:1', 'host:lab'])
    );
  });

  it('are fetched when a machine is attached, and when it no longer is', async () => {
    expect(specs.asked).toBe(0);
    specs.answers = [listing(fixtures.gpu.id)];
    model.set({ kernels: [onGpu] });
    await settle(20);
    model.set({});
    expect(specs.asked).toBe(1);
    specs.answers = [listing()];
    model.set({ kernels: [fixtures.kernel] });
    await settle(20);
    model.set({});
    expect(specs.asked).toBe(2);
  });

  it('are fetched once more where the server was a moment later', async () => {
    specs.answers = [listing(), listing(fixtures.gpu.id)];
    model.set({ kernels: [onGpu] });
    model.set({}); // the server's event, while the first answer is out
    await waitFor(() => {
      expect(specs.asked).toBe(2);
      expect(offeredMachines(specs.specs)).toEqual(new Set([fixtures.gpu.id]));
    });
  });

  it('are given up where the server offers none', async () => {
    for (let i = 0; i < 8; i++) {
      model.set({ kernels: [onGpu] });
      await settle(10);
    }
    expect(specs.asked).toBe(3);
  });

  it('leaves alone what a person has installed', async () => {
    specs.specs = listing('azure:by-hand');
    model.set({});
    await settle(10);
    expect(specs.asked).toBe(0);
  });

  it('tries again after a failure', async () => {
    const refresh = specs.refreshSpecs.bind(specs);
    const failing = jest
      .spyOn(specs, 'refreshSpecs')
      .mockImplementationOnce(() => Promise.reject(new Error('no answer')));
    specs.answers = [listing(fixtures.gpu.id)];
    model.set({ kernels: [onGpu] });
    await settle(10);
    failing.mockImplementation(refresh);
    model.set({});
    await waitFor(() => expect(offeredMachines(specs.specs)).toEqual(new Set([fixtures.gpu.id])));
  });
});
